/// QEMU's `edu`: a PCI device that copies memory when told to, 4 KiB at most, by way of its buffer.
final class EduDevice {
  /// PCI addresses, in order.
  static func addresses() -> [String] {
    let devices = "/sys/bus/pci/devices"
    return (Folder.names(devices) ?? []).filter {
      Folder.text("\(devices)/\($0)/vendor") == "0x1234"
        && Folder.text("\(devices)/\($0)/device") == "0x11e8"
    }
  }

  static func path(_ address: String) -> String { "/sys/bus/pci/devices/\(address)" }

  /// The file of the first one, for iommufd.
  static func characterDevice() throws -> String {
    guard let address = addresses().first,
      let node = Folder.names("\(path(address))/vfio-dev")?.first
    else { throw LabError("there is no edu with a character device") }
    return "/dev/vfio/devices/\(node)"
  }

  let file: KernelFile
  private static let buffer: UInt64 = 0x40000

  /// A device opened through vfio-pci; lets it do DMA.
  init(_ file: KernelFile) throws {
    self.file = file
    let command = UInt64(7) << 40 + 4
    let bits = try file.read(at: command, byteCount: 2)
    let result = file.write([bits[0] | 0b110, bits[1]], at: command)
    if result != 0 { throw LabError("PCI command register: \(Errno.name(result))") }
  }

  /// Memory to the device's buffer.
  func load(from iova: UInt64, byteCount: UInt64) throws {
    try copy(from: iova, to: Self.buffer, byteCount, command: 1)
  }

  /// The device's buffer to memory.
  func store(to iova: UInt64, byteCount: UInt64) throws {
    try copy(from: Self.buffer, to: iova, byteCount, command: 3)
  }

  private func copy(from: UInt64, to: UInt64, _ byteCount: UInt64, command: UInt64) throws {
    // A whole 4096 stops QEMU 7.2.
    precondition(byteCount <= 2048, "edu copies 2048 bytes at most")
    for (register, value) in [(0x80, from), (0x88, to), (0x90, byteCount), (0x98, command)] {
      let result = file.write(Structure().u64(value).bytes, at: UInt64(register))
      if result != 0 { throw LabError("edu register \(register): \(Errno.name(result))") }
    }
    // It takes a tenth of a second for every copy.
    let end = nanoseconds() + 10_000_000_000
    while try file.read(at: 0x98, byteCount: 8)[0] & 1 != 0 {
      if nanoseconds() > end { throw LabError("edu does not end its copy") }
    }
  }
}
