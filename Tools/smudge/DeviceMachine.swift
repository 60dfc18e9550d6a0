import Addressing
import CPUDirty
import DMAContainer
import DeviceMigration
import DirtyTracker
import Foundation
import GuestDirtyLog
import Simulation
import VFIOKernel

/// RAM, and the real devices of one VFIO group behind a type1 container that maps all of it one to
/// one. There are no processors; what the devices write is all that happens.
final class DeviceMachine: MigratingMachine {
  let ram: GuestRAM
  let tracker: DirtyTracker
  let devices: [MigratableDeviceV2]
  let container: Type1Container
  private(set) var isRunning = false
  /// Pages that came and were found equal to the source's.
  private(set) var pagesCompared: UInt64 = 0

  /// - Parameter path: `/dev/vfio/` and a group's number.
  init(path: String, memoryByteCount: UInt64) throws {
    let group = try VFIOGroup(path: path)
    ram = try GuestRAM(layout: GuestLayout(byteCount: memoryByteCount))
    container = try Type1Container(
      name: "group \(group.number)", groupPath: path,
      devices: group.deviceNames.map {
        Type1Device(name: $0, isMediated: VFIOGroup.isMediated($0))
      })
    var devices: [MigratableDeviceV2] = []
    for (index, name) in group.deviceNames.enumerated() {
      let device = try container.openDevice(name, groupPath: path)
      // The other side's group has devices of other names; their order is what they share.
      let migratable = MigratableDeviceV2(
        name: "device \(index)", migration: VFIODeviceMigrationV2(device: device))
      guard case .none(let reason) = migratable.interface else {
        devices.append(migratable)
        continue
      }
      throw ToolError("device \(name) of \(path) can not be migrated: \(reason)")
    }
    self.devices = devices
    tracker = DirtyTracker(log: GuestDirtyLog())
    tracker.begin()
    for region in ram.ramRegions { try tracker.regionAdded(region) }
    try tracker.commit()
    _ = try tracker.addContainer(container, addressSpace: .identity)
  }

  func boot(seed: UInt64) {
    ram.fill(seed: seed)
    isRunning = true
  }

  func stopVCPUs() throws(MachineError) { isRunning = false }
  func resumeVCPUs() throws(MachineError) { isRunning = true }

  /// A digest of each page: nothing writes any more when this is asked for.
  func saveState() throws(MachineError) -> [UInt8] {
    ram.pageDigests().flatMap { digest in
      (0..<8).map { UInt8(truncatingIfNeeded: digest >> (8 * $0)) }
    }
  }

  /// Holds the pages that came against what the source had; a difference fails the migration, and
  /// the source goes on.
  func restoreState(_ bytes: [UInt8]) throws(MachineError) {
    let theirs = stride(from: 0, to: bytes.count & ~7, by: 8).map { offset in
      (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[offset + $1]) << (8 * $1) }
    }
    let comparison = ram.compare(with: theirs)
    guard comparison.isEqual else {
      let first = comparison.different.first.map { ", the first at GPA \($0)" } ?? ""
      throw MachineError(
        operation: "take the memory for equal",
        detail: "\(comparison.different.count) of \(comparison.comparedCount) pages differ"
          + "\(first), \(comparison.unmatchedCount) have no counterpart")
    }
    pagesCompared = comparison.comparedCount
  }
}

/// A group of VFIO by its path, and what the kernel says of it.
struct VFIOGroup {
  let number: Int
  let deviceNames: [String]

  init(path: String) throws {
    let name = String(path.split(separator: "/").last ?? "")
    guard path.hasPrefix("/dev/vfio/") else {
      throw ToolError("\(path) is no device of VFIO: give /dev/vfio/N, N being an IOMMU group")
    }
    if path.hasPrefix("/dev/vfio/devices/") {
      throw ToolError(
        "\(path) is a character device for iommufd; this tool migrates by group: give /dev/vfio/N")
    }
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
