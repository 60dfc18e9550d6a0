import DeviceMigration

/// The rest of the VMM of one side.
final class MoveMachine: MigratingMachine {
  private(set) var isRunning: Bool
  private let whenStopped: () -> Void
  private let save: () -> [UInt8]
  private let restore: ([UInt8]) throws(MachineError) -> Void

  /// - Parameter whenStopped: what the devices do after the vCPUs stand, before they are stopped.
  init(
    isRunning: Bool, whenStopped: @escaping () -> Void, save: @escaping () -> [UInt8],
    restore: @escaping ([UInt8]) throws(MachineError) -> Void
  ) {
    self.isRunning = isRunning
    self.whenStopped = whenStopped
    self.save = save
    self.restore = restore
  }

  func stopVCPUs() throws(MachineError) {
    isRunning = false
    whenStopped()
  }

  func resumeVCPUs() throws(MachineError) { isRunning = true }
  func saveState() throws(MachineError) -> [UInt8] { save() }
  func restoreState(_ bytes: [UInt8]) throws(MachineError) { try restore(bytes) }

  /// A guest that was always here.
  func boot() { isRunning = true }

  /// The guest went elsewhere, and this side waits for one.
  func becomeEmpty() { isRunning = false }
}
