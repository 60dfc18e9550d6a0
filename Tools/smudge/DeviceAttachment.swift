import DMAContainer
import Foundation
import IOMMUFD
import VFIOKernel

/// Real devices in a container of their own: a group of VFIO by type1, or one character device by
/// iommufd.
struct DeviceAttachment {
  let container: any DMAContainer
  let devices: [VFIODevice]
  /// What is less exact than it could be, or will soon go wrong: each sentence once.
  let takeWarnings: () -> [String]
  /// A device of iommufd is open as long as this is.
  private let attached: [IOMMUFDDevice]

  private static let deviceFolder = "/dev/vfio/devices/"

  /// - Parameter path: `/dev/vfio/` and a group's number, or a file in `/dev/vfio/devices/`.
  init(path: String) throws {
    guard path.hasPrefix("/dev/vfio/") else {
      throw ToolError(
        "\(path) is no device of VFIO: give /dev/vfio/N, N being an IOMMU group, or "
          + "\(Self.deviceFolder)vfioN")
    }
    if path.hasPrefix(Self.deviceFolder) {
      try self.init(characterDevice: path)
    } else {
      try self.init(group: VFIOGroup(path: path), path: path)
    }
  }

  private init(group: VFIOGroup, path: String) throws {
    let type1 = try Type1Container(
      name: "group \(group.number)", groupPath: path,
      devices: group.deviceNames.map {
        Type1Device(name: $0, isMediated: VFIOGroup.isMediated($0))
      })
    container = type1
    devices = try group.deviceNames.map { try type1.openDevice($0, groupPath: path) }
    // Only an open device says whether it logs its writes by itself.
    try type1.attachmentChanged(
      to: devices.map {
        Type1Device(
          name: $0.name, isMediated: VFIOGroup.isMediated($0.name), log: DeviceDMALog(device: $0))
      })
    takeWarnings = { type1.takeWarnings() }
    attached = []
  }

  private init(characterDevice path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else {
      throw ToolError(
        "\(path) does not exist: is a device bound to vfio, and has the kernel iommufd?")
    }
    let name = String(path.dropFirst(Self.deviceFolder.count))
    let iommufd = try IOMMUFDContainer(name: "iommufd of \(name)")
    let file = try IOMMUFDDescriptor.open(path)
    // The descriptor is the container's; what is asked of the device by it ends before.
    let device = VFIODevice(
      name: name, descriptor: VFIODescriptor(file.rawValue, ownership: .borrowed))
    attached = [try iommufd.attachDevice(name, file, log: DeviceDMALog(device: device))]
    container = iommufd
    devices = [device]
    var notes = iommufd.notes
    takeWarnings = {
      defer { notes = [] }
      return notes
    }
  }
}
