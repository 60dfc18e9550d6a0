import DeviceMigration
import VFIOKernel

/// A migration region whose user does one thing against the protocol, to see that the driver
/// refuses it.
final class CarelessRegion: VFIOMigrationV1 {
  enum Habit: String, CaseIterable {
    case acknowledgesBeforeReading = "acknowledges before it reads"
    case leavesHalfUnread = "leaves half a chunk unread"
    case leavesHalfUnwritten = "leaves half a chunk unwritten"
  }

  private let region: VFIODeviceMigrationV1
  private let habit: Habit

  init(_ region: VFIODeviceMigrationV1, _ habit: Habit) {
    self.region = region
    self.habit = habit
  }

  /// The region itself where nobody is careless.
  static func used(
    _ region: VFIODeviceMigrationV1, _ habit: Habit?
  ) -> any VFIOMigrationV1 {
    if let habit { CarelessRegion(region, habit) } else { region }
  }

  var regionByteCount: UInt64 { region.regionByteCount }
  func readDeviceState() throws(DeviceError) -> UInt32 { try region.readDeviceState() }
  func writeDeviceState(_ value: UInt32) throws(DeviceError) {
    try region.writeDeviceState(value)
  }
  func readPendingBytes() throws(DeviceError) -> UInt64 { try region.readPendingBytes() }
  func readDataOffset() throws(DeviceError) -> UInt64 { try region.readDataOffset() }
  func readDataSize() throws(DeviceError) -> UInt64 {
    let size = try region.readDataSize()
    if habit == .acknowledgesBeforeReading { _ = try region.readPendingBytes() }
    return size
  }
  func writeDataSize(_ value: UInt64) throws(DeviceError) { try region.writeDataSize(value) }

  func readData(
    atRegionOffset offset: UInt64, into buffer: inout MutableRawSpan
  ) throws(DeviceError) {
    guard habit == .leavesHalfUnread else {
      return try region.readData(atRegionOffset: offset, into: &buffer)
    }
    var half = buffer._mutatingExtracting(0..<buffer.byteCount / 2)
    try region.readData(atRegionOffset: offset, into: &half)
  }

  func writeData(_ bytes: RawSpan, atRegionOffset offset: UInt64) throws(DeviceError) {
    let count = habit == .leavesHalfUnwritten ? bytes.byteCount / 2 : bytes.byteCount
    try region.writeData(bytes.extracting(0..<count), atRegionOffset: offset)
  }

  func reset() throws(DeviceError) { try region.reset() }
}
