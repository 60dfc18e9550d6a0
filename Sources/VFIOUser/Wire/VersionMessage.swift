/// The payload of VERSION, both ways: the version and what the sender can do, as JSON.
public struct VersionMessage: Hashable, Sendable {
  public var major: UInt16
  public var minor: UInt16
  public var capabilities: VersionCapabilities

  public init(major: UInt16 = 0, minor: UInt16, capabilities: VersionCapabilities) {
    self.major = major
    self.minor = minor
    self.capabilities = capabilities
  }

  /// Bytes of JSON that are looked at; far more than there are keys.
  static let textByteCountMax = 16 << 10

  public init(decoding payload: [UInt8]) throws(VFIOUserError) {
    var reader = WireReader(payload, "VERSION")
    major = try reader.take()
    minor = try reader.take()
    capabilities = VersionCapabilities()
    guard reader.leftCount > 0 else { return }
    var text = reader.takeRest()
    guard text.popLast() == 0 else { throw reader.malformed("its text does not end in NUL") }
    try reader.require(text.count <= Self.textByteCountMax, "a text of \(text.count) bytes")
    try reader.require(!text.contains(0), "a NUL inside of its text")
    while let last = text.last, [0x20, 0x09, 0x0a, 0x0d].contains(last) { text.removeLast() }
    if text.isEmpty { return }
    capabilities = try JSONText.read(text, reader)
  }

  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(major)
    writer.put(minor)
    writer.put(Array(capabilities.text.utf8))
    writer.put(0 as UInt8)
    return writer.bytes
  }
}

/// The `capabilities` object. Nil: not said, and the default holds.
public struct VersionCapabilities: Hashable, Sendable {
  public struct TwinSocket: Hashable, Sendable {
    public var isSupported: Bool
    /// Of the answer's descriptors, which one is the socket.
    public var descriptorIndex: Int?

    public init(isSupported: Bool, descriptorIndex: Int? = nil) {
      self.isSupported = isSupported
      self.descriptorIndex = descriptorIndex
    }
  }

  /// `max_msg_fds`, 0 to 1024.
  public var descriptorCountMax: Int?
  /// `max_data_xfer_size`, bytes.
  public var dataByteCountMax: Int?
  /// `max_dma_maps`.
  public var mappingCountMax: Int?
  /// `pgsizes`, a mask.
  public var pageSizes: UInt64?
  public var twinSocket: TwinSocket?
  /// `write_multiple`.
  public var writesMultiple: Bool?
  /// `migration.pgsize`, which libvfio-user and QEMU know and the specification does not.
  public var migrationPageSize: UInt64?
  /// `migration.max_bitmap_size`, bytes, of QEMU.
  public var migrationBitmapByteCountMax: UInt64?
  /// `dirty_ranges`, of this project: DMA_LOGGING_REPORT answers any range, across mappings and
  /// holes. Others leave the key out of account.
  public var reportsAnyRange: Bool?

  public init(
    descriptorCountMax: Int? = nil, dataByteCountMax: Int? = nil, mappingCountMax: Int? = nil,
    pageSizes: UInt64? = nil, twinSocket: TwinSocket? = nil, writesMultiple: Bool? = nil,
    migrationPageSize: UInt64? = nil, migrationBitmapByteCountMax: UInt64? = nil,
    reportsAnyRange: Bool? = nil
  ) {
    self.descriptorCountMax = descriptorCountMax
    self.dataByteCountMax = dataByteCountMax
    self.mappingCountMax = mappingCountMax
    self.pageSizes = pageSizes
    self.twinSocket = twinSocket
    self.writesMultiple = writesMultiple
    self.migrationPageSize = migrationPageSize
    self.migrationBitmapByteCountMax = migrationBitmapByteCountMax
    self.reportsAnyRange = reportsAnyRange
  }

  /// What the sender accepts, with the protocol's defaults and no more than this side ever sends.
  public var limits: MessageLimits {
    MessageLimits(
      dataByteCountMax: min(
        dataByteCountMax ?? MessageLimits.dataByteCountDefault, MessageLimits.dataByteCountLargest),
      descriptorCountMax: descriptorCountMax ?? 1)
  }

  /// The JSON text.
  public var text: String {
    var parts: [String] = []
    if let descriptorCountMax { parts.append("\"max_msg_fds\":\(descriptorCountMax)") }
    if let dataByteCountMax { parts.append("\"max_data_xfer_size\":\(dataByteCountMax)") }
    if let mappingCountMax { parts.append("\"max_dma_maps\":\(mappingCountMax)") }
    if let pageSizes { parts.append("\"pgsizes\":\(pageSizes)") }
    if let twinSocket {
      let index = twinSocket.descriptorIndex.map { ",\"fd_index\":\($0)" } ?? ""
      parts.append("\"twin_socket\":{\"supported\":\(twinSocket.isSupported)\(index)}")
    }
    if let writesMultiple { parts.append("\"write_multiple\":\(writesMultiple)") }
    var migration: [String] = []
    if let migrationPageSize { migration.append("\"pgsize\":\(migrationPageSize)") }
    if let bytes = migrationBitmapByteCountMax { migration.append("\"max_bitmap_size\":\(bytes)") }
    if !migration.isEmpty {
      parts.append("\"migration\":{\(migration.joined(separator: ","))}")
    }
    if let reportsAnyRange { parts.append("\"dirty_ranges\":\(reportsAnyRange)") }
    return "{\"capabilities\":{\(parts.joined(separator: ","))}}"
  }
}
