import Addressing
import CPUDirty
import DMAContainer
import DeviceMigration
import DirtyTracker
import Foundation
import GuestDirtyLog
import Simulation
import VFIOKernel

/// RAM, and real devices behind a container that maps all of it one to one. There are no
/// processors; what the devices write is all that happens.
final class DeviceMachine: MigratingMachine {
  let ram: GuestRAM
  let tracker: DirtyTracker
  let devices: [any MigratableDevice]
  let attachment: DeviceAttachment
  private(set) var isRunning = false
  /// Pages that came and were found equal to the source's.
  private(set) var pagesCompared: UInt64 = 0
  let failureRecord = FailureRecord()

  /// - Parameter path: as of ``DeviceAttachment``.
  init(path: String, memoryByteCount: UInt64) throws {
    let attachment = try DeviceAttachment(path: path)
    ram = try GuestRAM(layout: GuestLayout(byteCount: memoryByteCount))
    var devices: [any MigratableDevice] = []
    for (index, device) in attachment.devices.enumerated() {
      // The other side's devices have other names; their order is what they share.
      let migratable = try device.migratable("device \(index)")
      guard case .none(let reason) = migratable.interface else {
        devices.append(migratable)
        continue
      }
      throw ToolError("device \(device.name) of \(path) can not be migrated: \(reason)")
    }
    self.attachment = attachment
    self.devices = devices
    tracker = DirtyTracker(log: GuestDirtyLog(), record: failureRecord.record)
    try tracker.begin()
    for region in ram.ramRegions { try tracker.regionAdded(region) }
    try tracker.commit()
    _ = try tracker.addContainer(attachment.container, addressSpace: .identity)
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
