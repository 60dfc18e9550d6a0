/// The answer to DEVICE_GET_INFO: u32 argsz | u32 flags | u32 regions | u32 interrupts.
public struct DeviceInformation: Hashable, Sendable {
  public var canReset: Bool
  public var isPCI: Bool
  public var regionCount: UInt32
  public var irqCount: UInt32

  public init(canReset: Bool, isPCI: Bool, regionCount: UInt32, irqCount: UInt32) {
    self.canReset = canReset
    self.isPCI = isPCI
    self.regionCount = regionCount
    self.irqCount = irqCount
  }

  init(_ reader: inout WireReader) throws(VFIOUserError) {
    _ = try reader.take(UInt32.self)
    let flags: UInt32 = try reader.take()
    canReset = flags & 1 != 0
    isPCI = flags & 2 != 0
    regionCount = try reader.take()
    irqCount = try reader.take()
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(16 as UInt32)
    writer.put((canReset ? 1 : 0) | (isPCI ? 2 : 0) as UInt32)
    writer.put(regionCount)
    writer.put(irqCount)
    return writer.bytes
  }
}

/// The answer to DEVICE_GET_REGION_INFO: u32 argsz | u32 flags | u32 index | u32 offset of the
/// capabilities | u64 size | u64 offset for mmap, then the capabilities.
public struct RegionInformation: Hashable, Sendable {
  public struct Access: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue & 7 }
    public static let read = Access(rawValue: 1)
    public static let write = Access(rawValue: 2)
    /// A descriptor comes with the answer.
    public static let map = Access(rawValue: 4)
  }

  /// A part that may be mapped, from the start of the region.
  public struct Area: Hashable, Sendable {
    public var offset: UInt64
    public var byteCount: UInt64

    public init(offset: UInt64, byteCount: UInt64) {
      self.offset = offset
      self.byteCount = byteCount
    }
  }

  public var index: UInt32
  public var access: Access
  public var byteCount: UInt64
  /// Where the region begins in its descriptor.
  public var mapOffset: UInt64
  /// Empty: all of it may be mapped.
  public var areas: [Area]

  public init(
    index: UInt32, access: Access, byteCount: UInt64, mapOffset: UInt64 = 0, areas: [Area] = []
  ) {
    self.index = index
    self.access = access
    self.byteCount = byteCount
    self.mapOffset = mapOffset
    self.areas = areas
  }

  static let byteCountFixed = 32
  private static let hasCapabilities: UInt32 = 8
  private static let sparseID: UInt16 = 1

  /// Bytes of the whole answer.
  var fullByteCount: Int {
    areas.isEmpty ? Self.byteCountFixed : Self.byteCountFixed + 16 + 16 * areas.count
  }

  /// - Returns: with it, the bytes the whole answer needs where this one was cut.
  static func decode(
    _ reader: inout WireReader
  ) throws(VFIOUserError) -> (RegionInformation, neededByteCount: Int?) {
    let whole = reader
    let argsz: UInt32 = try reader.take()
    let flags: UInt32 = try reader.take()
    let index: UInt32 = try reader.take()
    let first: UInt32 = try reader.take()
    var found = RegionInformation(
      index: index, access: Access(rawValue: flags), byteCount: try reader.take(),
      mapOffset: try reader.take())
    if UInt64(argsz) > UInt64(whole.bytes.count) { return (found, Int(argsz)) }
    guard flags & hasCapabilities != 0, first != 0 else { return (found, nil) }
    var at = Int(first)
    // Each lies behind the one before, so a chain ends.
    while at != 0 {
      try reader.require(
        at >= Self.byteCountFixed && at <= whole.bytes.count - 8, "a capability at \(at)")
      let id = WireBytes.load(UInt16.self, from: whole.bytes, at: at)
      let next = Int(WireBytes.load(UInt32.self, from: whole.bytes, at: at + 4))
      if id == Self.sparseID { found.areas = try areas(at: at + 8, reader) }
      try reader.require(next == 0 || next > at, "capabilities in a circle")
      at = next
    }
    return (found, nil)
  }

  private static func areas(at start: Int, _ reader: WireReader) throws(VFIOUserError) -> [Area] {
    let bytes = reader.bytes
    try reader.require(start <= bytes.count - 8, "a capability is cut")
    let count = Int(WireBytes.load(UInt32.self, from: bytes, at: start))
    try reader.require(count <= (bytes.count - start - 8) / 16, "\(count) areas")
    return (0..<count).map { index in
      let at = start + 8 + 16 * index
      return Area(
        offset: WireBytes.load(UInt64.self, from: bytes, at: at),
        byteCount: WireBytes.load(UInt64.self, from: bytes, at: at + 8))
    }
  }

  /// Cut to the fixed part where the asker has no room for all: it asks again with more.
  func encoded(argsz: UInt32) -> [UInt8] {
    var writer = WireWriter()
    writer.put(UInt32(fullByteCount))
    writer.put(access.rawValue | (areas.isEmpty ? 0 : Self.hasCapabilities))
    writer.put(index)
    let isWhole = fits(argsz)
    writer.put(areas.isEmpty || !isWhole ? 0 : UInt32(Self.byteCountFixed))
    writer.put(byteCount)
    writer.put(mapOffset)
    guard !areas.isEmpty, isWhole else { return writer.bytes }
    writer.put(Self.sparseID)
    writer.put(1 as UInt16)
    writer.put(0 as UInt32)
    writer.put(UInt32(areas.count))
    writer.put(0 as UInt32)
    for area in areas {
      writer.put(area.offset)
      writer.put(area.byteCount)
    }
    return writer.bytes
  }

  func fits(_ argsz: UInt32) -> Bool { fullByteCount <= Int(argsz) }
}

/// One entry of the answer to DEVICE_GET_REGION_IO_FDS, 40 bytes.
public struct RegionIODescriptor: Hashable, Sendable {
  public var offset: UInt64
  public var byteCount: UInt64
  /// Of the answer's descriptors, which one.
  public var descriptorIndex: UInt32
  public var type: UInt32
  public var flags: UInt32
  public var shadowIndex: UInt32
  public var match: UInt64

  public init(
    offset: UInt64, byteCount: UInt64, descriptorIndex: UInt32, type: UInt32, flags: UInt32 = 0,
    shadowIndex: UInt32 = 0, match: UInt64 = 0
  ) {
    self.offset = offset
    self.byteCount = byteCount
    self.descriptorIndex = descriptorIndex
    self.type = type
    self.flags = flags
    self.shadowIndex = shadowIndex
    self.match = match
  }

  static let byteCountEach = 40

  init(_ reader: inout WireReader) throws(VFIOUserError) {
    offset = try reader.take()
    byteCount = try reader.take()
    descriptorIndex = try reader.take()
    type = try reader.take()
    flags = try reader.take()
    shadowIndex = try reader.take()
    match = try reader.take()
  }

  func encode(to writer: inout WireWriter) {
    writer.put(offset)
    writer.put(byteCount)
    writer.put(descriptorIndex)
    writer.put(type)
    writer.put(flags)
    writer.put(shadowIndex)
    writer.put(match)
  }
}
