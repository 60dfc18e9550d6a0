/// A container of VFIO as a VMM opens it, to be handed to the project's modules or asked directly.
final class RawContainer {
  enum Number {
    static let setIOMMU: UInt = 0x3b66
    static let setContainer: UInt = 0x3b68
    static let getDevice: UInt = 0x3b6a
    static let getInformation: UInt = 0x3b70
    static let map: UInt = 0x3b71
    static let unmap: UInt = 0x3b72
    static let dirtyPages: UInt = 0x3b75
  }

  let file: KernelFile
  private var groups: [KernelFile] = []

  /// - Parameter version: 3 is type1 v2, 1 type1.
  init(devices: [String], version: Int = 3) throws {
    file = try KernelFile("/dev/vfio/vfio")
    for (index, device) in devices.enumerated() {
      try attach(device)
      guard index == 0 else { continue }
      let result = file.control(Number.setIOMMU, value: version)
      if result < 0 { throw LabError("SET_IOMMU: \(Errno.name(-result))") }
    }
  }

  /// Attaches the group of a device, by the device's path in sysfs.
  func attach(_ device: String) throws {
    guard let number = Folder.linkName("\(device)/iommu_group") else {
      throw LabError("\(device) is in no group")
    }
    let group = try KernelFile("/dev/vfio/\(number)")
    var bytes = Structure().u32(UInt32(file.descriptor)).bytes
    let result = group.control(Number.setContainer, &bytes)
    if result < 0 { throw LabError("SET_CONTAINER of group \(number): \(Errno.name(-result))") }
    groups.append(group)
  }

  /// Of the group attached last.
  func openDevice(_ name: String) throws -> KernelFile {
    var bytes = Array(name.utf8) + [0]
    let result = groups[groups.count - 1].control(Number.getDevice, &bytes)
    if result < 0 { throw LabError("GET_DEVICE_FD \(name): \(Errno.name(-result))") }
    return KernelFile(owning: result)
  }
}
