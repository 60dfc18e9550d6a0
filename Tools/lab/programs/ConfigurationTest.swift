import DeviceMigration
import VFIOKernel

/// PCI configuration by vfio-pci: what a guest set up in one `edu` goes to another.
enum ConfigurationTest {
  private static let bar = 0x10
  private static let command = 0x04
  private static let capabilityPointer = 0x34
  private static let msi: UInt32 = 0x05
  private static let windows = PCIWindows(memory: [0xc000_0000...0xfebf_ffff])

  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let addresses = EduDevice.addresses()
    guard addresses.count >= 2 else { throw LabError("two edu devices are needed") }
    let raw = try RawContainer(devices: [EduDevice.path(addresses[0])])
    var files = [try raw.openDevice(addresses[0])]
    try raw.attach(EduDevice.path(addresses[1]))
    files.append(try raw.openDevice(addresses[1]))
    defer { withExtendedLifetime((raw, files)) {} }
    let source = try space(addresses[0], files[0])
    let target = try space(addresses[1], files[1])

    let byteCount = try source.barByteCount(0)
    result.expect("the size of its BAR, as the kernel says", byteCount, is: 1 << 20)
    let message = try messageOffset(source)
    try source.writeConfiguration(0xc010_0000, at: bar, byteCount: 4)
    try source.writeConfiguration(0xfee0_1000, at: message + 4, byteCount: 4)
    try source.writeConfiguration(0x42, at: message + 12, byteCount: 2)
    try source.writeConfiguration(0x506, at: command, byteCount: 2)
    let saved = try PCIConfiguration(space: source, windows: windows).save(deviceName: addresses[0])

    let before = try registers(target, message)
    result.check("the other device is set up differently", try before != registers(source, message))
    let narrow = PCIWindows(memory: [0xd000_0000...0xfebf_ffff])
    do {
      try restore(saved, to: target, narrow, addresses[1])
      result.check("a BAR outside the windows is refused", false)
    } catch let error as DeviceError {
      result.check(
        "a BAR outside the windows is refused by name", "\(error)".contains("BAR 0"), "\(error)")
    }
    result.expect("and nothing was changed", try registers(target, message), is: before)
    try restore(saved, to: target, windows, addresses[1])
    result.expect(
      "command, BAR and message are the source's", try registers(target, message),
      is: try registers(source, message))
    return result
  }

  private static func space(
    _ address: String, _ file: KernelFile
  ) throws -> VFIOConfigurationSpace {
    try VFIOConfigurationSpace(
      device: VFIODevice(
        name: address, descriptor: VFIODescriptor(file.descriptor, ownership: .borrowed)))
  }

  private static func restore(
    _ saved: [UInt8], to space: VFIOConfigurationSpace, _ windows: PCIWindows, _ name: String
  ) throws {
    try DeviceBytes.reading(saved) { (bytes) throws(DeviceError) in
      try PCIConfiguration(space: space, windows: windows).restore(bytes, deviceName: name)
    }
  }

  private static func messageOffset(_ space: VFIOConfigurationSpace) throws -> Int {
    var offset = try Int(space.readConfiguration(at: capabilityPointer, byteCount: 1))
    while offset != 0 {
      if try space.readConfiguration(at: offset, byteCount: 1) == msi { return offset }
      offset = try Int(space.readConfiguration(at: offset + 1, byteCount: 1))
    }
    throw LabError("edu has no MSI capability")
  }

  /// What the guest can set up.
  private static func registers(_ space: VFIOConfigurationSpace, _ message: Int) throws -> [UInt32]
  {
    try [
      space.readConfiguration(at: command, byteCount: 2),
      space.readConfiguration(at: bar, byteCount: 4),
      space.readConfiguration(at: message + 4, byteCount: 4),
      space.readConfiguration(at: message + 8, byteCount: 4),
      space.readConfiguration(at: message + 12, byteCount: 2),
    ]
  }
}
