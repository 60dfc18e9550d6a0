import DeviceMigration

/// The rest of the VMM of one side.
final class MoveMachine: MigratingMachine {
  private(set) var isRunning: Bool
  private let save: () -> [UInt8]
  private let restore: ([UInt8]) throws(MachineError) -> Void

  init(
    isRunning: Bool, save: @escaping () -> [UInt8],
    restore: @escaping ([UInt8]) throws(MachineError) -> Void
  ) {
    self.isRunning = isRunning
    self.save = save
    self.restore = restore
  }

  func stopVCPUs() throws(MachineError) { isRunning = false }
  func resumeVCPUs() throws(MachineError) { isRunning = true }
  func saveState() throws(MachineError) -> [UInt8] { save() }
  func restoreState(_ bytes: [UInt8]) throws(MachineError) { try restore(bytes) }

  /// A guest that was always here.
  func boot() { isRunning = true }

  /// The guest went elsewhere, and this side waits for one.
  func becomeEmpty() { isRunning = false }
}
