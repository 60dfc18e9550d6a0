import Foundation

/// A group of VFIO by its path, and what the kernel says of it.
struct VFIOGroup {
  let number: Int
  let deviceNames: [String]

  init(path: String) throws {
    let name = String(path.split(separator: "/").last ?? "")
    guard let number = Int(name), number >= 0, path == "/dev/vfio/\(number)" else {
      throw ToolError("\(path) is no group of VFIO: give /dev/vfio/N, N being an IOMMU group")
    }
    guard FileManager.default.fileExists(atPath: path) else {
      throw ToolError(
        "\(path) does not exist: is vfio loaded, and a device of group \(number) bound to it?")
    }
    let folder = "/sys/kernel/iommu_groups/\(number)/devices"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    guard !names.isEmpty else { throw ToolError("\(path) has no devices (\(folder) is empty)") }
    self.number = number
    self.deviceNames = names.sorted()
  }

  static func isMediated(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: "/sys/bus/mdev/devices/\(name)")
  }
}
