/// One entry of an MSI-X table (PCI Express Base Specification, 7.7.2).
public struct MSIXEntry: Hashable, Sendable {
  public let address: UInt64
  public let data: UInt32
  /// Bit 0: masked.
  public let control: UInt32

  public init(address: UInt64, data: UInt32, control: UInt32) {
    self.address = address
    self.data = data
    self.control = control
  }
}

/// Where a bus may place BARs: closed ranges of bus addresses.
public struct PCIWindows: Hashable, Sendable {
  public let memory: [ClosedRange<UInt64>]
  public let io: [ClosedRange<UInt64>]

  public init(memory: [ClosedRange<UInt64>], io: [ClosedRange<UInt64>] = []) {
    self.memory = memory
    self.io = io
  }
}

/// The PCI configuration of one device as the guest sees it: what the VMM emulates over the
/// device's own. One thread uses it at a time.
public protocol PCIConfigurationSpace: AnyObject, Sendable {
  /// Little-endian, `byteCount` 1, 2 or 4, naturally aligned, below offset 256.
  func readConfiguration(at offset: Int, byteCount: Int) throws(DeviceError) -> UInt32
  func writeConfiguration(_ value: UInt32, at offset: Int, byteCount: Int) throws(DeviceError)

  /// Bytes of BAR 0 to 5, a power of two, 0 where there is none (VFIO_DEVICE_GET_REGION_INFO): not
  /// found out by writing ones, for a guest may be looking. 0 for the upper half of a 64-bit BAR.
  func barByteCount(_ index: Int) throws(DeviceError) -> UInt64

  /// The MSI-X table, reachable whether memory decoding is on or not: a VMM keeps it itself.
  func readMSIXEntry(_ index: Int) throws(DeviceError) -> MSIXEntry
  func writeMSIXEntry(_ entry: MSIXEntry, at index: Int) throws(DeviceError)
}
