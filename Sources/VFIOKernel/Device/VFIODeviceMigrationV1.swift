import CSmudgeLinux
public import DeviceMigration

/// The v1 migration region of a device by its descriptor: registers by pread and pwrite, each whole
/// and at its width; data by memory where the region can be mapped, by pread and pwrite elsewhere.
public final class VFIODeviceMigrationV1: VFIOMigrationV1 {
  private let device: VFIODevice
  private let region: VFIORegion
  private let areas: [MappedArea]

  /// Looks for the region among all the device has: type 3, subtype 1. Nil when there is none.
  public init?(device: VFIODevice) throws(DeviceError) {
    var found: VFIORegion?
    for index in 0..<(try device.regionCount()) where found == nil {
      do throws(DeviceError) {
        let region = try device.region(index)
        if region.isV1Migration { found = region }
      } catch {
        // An index without a region: a BAR that is not there, VGA.
        guard error.errno == .einval else { throw error }
      }
    }
    guard let region = found else { return nil }
    self.device = device
    self.region = region
    // Registers are never touched through memory: each access to them has effects.
    self.areas = region.mappableAreas.compactMap { MappedArea($0, of: region, device.descriptor) }
  }

  public var regionByteCount: UInt64 { region.byteCount }
  /// Parts of the region whose data is moved by memory.
  public var mappedAreaCount: Int { areas.count }

  // MARK: registers

  private static let stateOffset: UInt64 = 0
  private static let pendingOffset: UInt64 = 8
  private static let dataOffsetOffset: UInt64 = 16
  private static let dataSizeOffset: UInt64 = 24

  public func readDeviceState() throws(DeviceError) -> UInt32 {
    try load("read device_state", UInt32.self, at: Self.stateOffset)
  }
  public func writeDeviceState(_ value: UInt32) throws(DeviceError) {
    try store("write device_state", value, at: Self.stateOffset)
  }
  public func readPendingBytes() throws(DeviceError) -> UInt64 {
    try load("read pending_bytes", UInt64.self, at: Self.pendingOffset)
  }
  public func readDataOffset() throws(DeviceError) -> UInt64 {
    try load("read data_offset", UInt64.self, at: Self.dataOffsetOffset)
  }
  public func readDataSize() throws(DeviceError) -> UInt64 {
    try load("read data_size", UInt64.self, at: Self.dataSizeOffset)
  }
  public func writeDataSize(_ value: UInt64) throws(DeviceError) {
    try store("write data_size", value, at: Self.dataSizeOffset)
  }

  private func load<Value: FixedWidthInteger & BitwiseCopyable>(
    _ operation: String, _ type: Value.Type, at offset: UInt64
  ) throws(DeviceError) -> Value {
    var value: Value = 0
    let descriptor = device.descriptor
    let count = RequestBytes.writing(&value) {
      descriptor.calls.read(descriptor.rawValue, into: &$0, at: region.offset &+ offset)
    }
    try check(operation, count, of: MemoryLayout<Value>.size)
    return Value(littleEndian: value)
  }

  private func store<Value: FixedWidthInteger & BitwiseCopyable>(
    _ operation: String, _ value: Value, at offset: UInt64
  ) throws(DeviceError) {
    let descriptor = device.descriptor
    let count = RequestBytes.reading(value.littleEndian) {
      descriptor.calls.write(descriptor.rawValue, $0, at: region.offset &+ offset)
    }
    try check(operation, count, of: MemoryLayout<Value>.size)
  }

  private func check(
    _ operation: String, _ count: Int, of byteCount: Int
  ) throws(DeviceError) {
    guard count >= 0 else {
      throw device.refused(operation, Int32(truncatingIfNeeded: count))
    }
    guard count == byteCount else {
      throw DeviceError(
        .protocolBroken, object: device.name, operation: operation,
        detail: "\(count) of \(byteCount) bytes were accessed")
    }
  }

  // MARK: data

  public func readData(
    atRegionOffset offset: UInt64, into buffer: inout MutableRawSpan
  ) throws(DeviceError) {
    var done = 0
    while done < buffer.byteCount {
      let at = offset &+ UInt64(done)
      let (area, count) = part(at, buffer.byteCount - done)
      if let area {
        area.read(at: at, into: &buffer, from: done, byteCount: count)
      } else {
        var rest = buffer._mutatingExtracting(done..<done + count)
        let descriptor = device.descriptor
        let got = descriptor.calls.read(
          descriptor.rawValue, into: &rest, at: region.offset &+ at)
        try check("read data", got, of: count)
      }
      done += count
    }
  }

  public func writeData(_ bytes: RawSpan, atRegionOffset offset: UInt64) throws(DeviceError) {
    var done = 0
    while done < bytes.byteCount {
      let at = offset &+ UInt64(done)
      let (area, count) = part(at, bytes.byteCount - done)
      let piece = bytes.extracting(done..<done + count)
      if let area {
        area.write(piece, at: at)
      } else {
        let descriptor = device.descriptor
        let put = descriptor.calls.write(descriptor.rawValue, piece, at: region.offset &+ at)
        try check("write data", put, of: count)
      }
      done += count
    }
  }

  /// How the bytes from `offset` on are reached, and how many of them in that way.
  private func part(_ offset: UInt64, _ byteCount: Int) -> (MappedArea?, Int) {
    for area in areas where area.area.end > offset {
      if area.area.offset > offset {
        return (nil, Int(min(UInt64(byteCount), area.area.offset &- offset)))
      }
      return (area, Int(min(UInt64(byteCount), area.area.end &- offset)))
    }
    return (nil, byteCount)
  }

  public func reset() throws(DeviceError) { try device.reset() }
}
