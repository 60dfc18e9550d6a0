/// The v1 migration region of one device (`struct vfio_device_migration_info`, Linux 5.8 to 5.17;
/// devices in user space after that): registers at the start of the region, a data section behind
/// them. Each register is accessed whole, at its native width. One thread uses it at a time.
public protocol VFIOMigrationV1: AnyObject, Sendable {
  /// The size of the whole region in bytes, registers included.
  var regionByteCount: UInt64 { get }

  /// `device_state`, 32 bits at offset 0; see ``DeviceStateV1``.
  func readDeviceState() throws(DeviceError) -> UInt32
  /// Returns when the device is in the new state. After a failure, read it again.
  func writeDeviceState(_ value: UInt32) throws(DeviceError)

  /// `pending_bytes`, 64 bits at offset 8. Reading it acknowledges the chunk before.
  func readPendingBytes() throws(DeviceError) -> UInt64

  /// `data_offset`, 64 bits at offset 16, from the start of the region. While saving, the device
  /// prepares a chunk before it answers; while resuming, it says where the chunk is to go.
  func readDataOffset() throws(DeviceError) -> UInt64

  /// `data_size`, 64 bits at offset 24: bytes of the chunk at `data_offset`.
  func readDataSize() throws(DeviceError) -> UInt64
  /// While resuming: the chunk of `value` bytes is there; returns when the device has taken it.
  func writeDataSize(_ value: UInt64) throws(DeviceError)

  /// Fills `buffer` from the data section.
  func readData(atRegionOffset offset: UInt64, into buffer: inout MutableRawSpan)
    throws(DeviceError)
  func writeData(_ bytes: RawSpan, atRegionOffset offset: UInt64) throws(DeviceError)

  /// VFIO_DEVICE_RESET: to running from every state, device state lost.
  func reset() throws(DeviceError)
}
