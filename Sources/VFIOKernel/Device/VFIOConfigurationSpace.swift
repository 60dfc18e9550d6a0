import CSmudgeLinux
public import DeviceMigration
import Locking

/// The PCI configuration of a device by its descriptor. The MSI-X table is not the device's, which
/// vfio-pci hides, but the one the VMM shows the guest: it is kept here, and the VMM takes from it
/// what it programs interrupts with.
public final class VFIOConfigurationSpace: PCIConfigurationSpace {
  private let device: VFIODevice
  private let region: VFIORegion
  private let entries: Mutex<[MSIXEntry]>

  /// - Parameter msixEntries: the table as the guest has set it up.
  public init(device: VFIODevice, msixEntries: [MSIXEntry] = []) throws(DeviceError) {
    self.device = device
    self.region = try device.region(Int(SMUDGE_VFIO_PCI_CONFIG_REGION))
    self.entries = Mutex(msixEntries)
    guard region.byteCount >= 256 else {
      throw DeviceError(
        .interfaceMissing, object: device.name, operation: "read the PCI configuration",
        detail: "its configuration region has \(region.byteCount) bytes")
    }
  }

  /// The MSI-X table as it is.
  public var msixEntries: [MSIXEntry] { entries.withLock { $0 } }

  public func readConfiguration(at offset: Int, byteCount: Int) throws(DeviceError) -> UInt32 {
    let operation = "read configuration byte \(offset)"
    try check(offset, byteCount, operation)
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let descriptor = device.descriptor
    let count = RequestBytes.writing(&bytes) {
      descriptor.calls.read(
        descriptor.rawValue, into: &$0, at: region.offset &+ UInt64(offset))
    }
    try check(count, of: byteCount, operation)
    return bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }

  public func writeConfiguration(
    _ value: UInt32, at offset: Int, byteCount: Int
  ) throws(DeviceError) {
    let operation = "write configuration byte \(offset)"
    try check(offset, byteCount, operation)
    let descriptor = device.descriptor
    let count = RequestBytes.reading(value.littleEndian) {
      descriptor.calls.write(
        descriptor.rawValue, $0.extracting(0..<byteCount), at: region.offset &+ UInt64(offset))
    }
    try check(count, of: byteCount, operation)
  }

  public func barByteCount(_ index: Int) throws(DeviceError) -> UInt64 {
    try device.region(index).byteCount
  }

  public func readMSIXEntry(_ index: Int) throws(DeviceError) -> MSIXEntry {
    try checkEntry(index, "read")
    return entries.withLock { $0[index] }
  }

  public func writeMSIXEntry(_ entry: MSIXEntry, at index: Int) throws(DeviceError) {
    try checkEntry(index, "write")
    entries.withLock { $0[index] = entry }
  }

  private func check(
    _ offset: Int, _ byteCount: Int, _ operation: String
  ) throws(DeviceError) {
    guard [1, 2, 4].contains(byteCount), offset >= 0, offset % byteCount == 0,
      offset + byteCount <= 256
    else { throw DeviceError(object: device.name, operation: operation, errno: .einval) }
  }

  private func check(
    _ count: Int, of byteCount: Int, _ operation: String
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

  private func checkEntry(_ index: Int, _ verb: String) throws(DeviceError) {
    guard entries.withLock({ $0.indices.contains(index) }) else {
      throw DeviceError(
        object: device.name, operation: "\(verb) MSI-X entry \(index)", errno: .einval,
        detail: "the table has \(entries.withLock { $0.count }) entries")
    }
  }
}
