/// What REGION_READ and REGION_WRITE reach: u64 offset | u32 region | u32 count, then the data.
public struct RegionAccess: Hashable, Sendable {
  public var region: UInt32
  public var offset: UInt64
  public var byteCount: Int

  public init(region: UInt32, offset: UInt64, byteCount: Int) {
    self.region = region
    self.offset = offset
    self.byteCount = byteCount
  }

  init(_ reader: inout WireReader, limits: MessageLimits) throws(VFIOUserError) {
    offset = try reader.take()
    region = try reader.take()
    let count: UInt32 = try reader.take()
    try reader.require(UInt64(count) <= UInt64(limits.dataByteCountMax), "\(count) bytes")
    byteCount = Int(count)
    try reader.require(
      !offset.addingReportingOverflow(UInt64(count)).overflow, "it runs past 2^64-1")
  }

  func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.put(offset)
    writer.put(region)
    writer.put(UInt32(byteCount))
    return writer.bytes
  }
}

/// One write of REGION_WRITE_MULTI, 24 bytes: u64 offset | u32 region | u32 count | 8 bytes.
public struct SmallRegionWrite: Hashable, Sendable {
  public var region: UInt32
  public var offset: UInt64
  /// 1 to 8.
  public var bytes: [UInt8]

  public init(region: UInt32, offset: UInt64, bytes: [UInt8]) {
    precondition((1...8).contains(bytes.count), "a small write has 1 to 8 bytes")
    self.region = region
    self.offset = offset
    self.bytes = bytes
  }

  static let byteCount = 24
  /// What QEMU sends at most.
  static let countMax = 200

  static func decode(_ reader: inout WireReader) throws(VFIOUserError) -> [SmallRegionWrite] {
    let count: UInt64 = try reader.take()
    try reader.require(count <= UInt64(countMax), "\(count) writes")
    try reader.require(reader.leftCount == Int(count) * byteCount, "\(count) writes")
    var writes: [SmallRegionWrite] = []
    for _ in 0..<count {
      let offset: UInt64 = try reader.take()
      let region: UInt32 = try reader.take()
      let byteCount: UInt32 = try reader.take()
      let bytes = try reader.takeBytes(8)
      try reader.require((1...8).contains(byteCount), "a write of \(byteCount) bytes")
      writes.append(
        SmallRegionWrite(region: region, offset: offset, bytes: Array(bytes.prefix(Int(byteCount))))
      )
    }
    return writes
  }

  static func encoded(_ writes: [SmallRegionWrite]) -> [UInt8] {
    var writer = WireWriter()
    writer.put(UInt64(writes.count))
    for write in writes {
      writer.put(write.offset)
      writer.put(write.region)
      writer.put(UInt32(write.bytes.count))
      writer.put(write.bytes + [UInt8](repeating: 0, count: 8 - write.bytes.count))
    }
    return writer.bytes
  }
}
