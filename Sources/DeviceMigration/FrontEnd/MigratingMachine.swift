/// What a migration asks of the VMM whose guest it moves. Called on the thread that drives the
/// migration.
public protocol MigratingMachine: AnyObject {
  /// Whether vCPUs run now.
  var isRunning: Bool { get }

  /// Returns when no vCPU runs. The VMM may tell the migration of the change from inside this call
  /// (``MigrationSource/vmStateChanged(_:)``) or leave that to it.
  func stopVCPUs() throws(MachineError)

  func resumeVCPUs() throws(MachineError)

  /// What is neither RAM nor one of the devices: vCPUs, interrupt controller, emulated devices.
  /// Opaque to the stream. vCPUs are stopped.
  func saveState() throws(MachineError) -> [UInt8]

  /// Takes `percent` of their time from the vCPUs, 0 to 99; 0 gives it back. Asked in rounds that
  /// bring no progress, where ``MigrationPolicy/throttle`` wants it, and with 0 when the migration
  /// is over in whatever way.
  /// - Returns: false where the VMM cannot.
  func throttleVCPUs(percent: Int) throws(MachineError) -> Bool

  /// Takes what `saveState` gave, before any device or vCPU runs.
  func restoreState(_ bytes: [UInt8]) throws(MachineError)
}

extension MigratingMachine {
  public func throttleVCPUs(percent: Int) throws(MachineError) -> Bool { false }
}

/// The VMM could not do what the migration asked.
public struct MachineError: Error, Hashable, Sendable, CustomStringConvertible {
  public let operation: String
  /// A clause without full stop.
  public let detail: String

  public init(operation: String, detail: String) {
    self.operation = operation
    self.detail = detail
  }

  public var description: String { "the VMM could not \(operation): \(detail)" }
}

/// The run state of the VM, as a VMM's notifiers give it.
public enum VMState: String, Hashable, Sendable, CaseIterable {
  case running = "RUNNING"
  /// Stopped by hand, no migration is behind it.
  case paused = "PAUSED"
  /// Stopped for the last phase of a migration.
  case finishMigrate = "FINISH_MIGRATE"
}

/// The state of a migration, as a VMM's notifiers give it.
public enum MigrationStatus: String, Hashable, Sendable, CaseIterable {
  case none = "NONE"
  case setup = "SETUP"
  case active = "ACTIVE"
  case device = "DEVICE"
  case completed = "COMPLETED"
  case failed = "FAILED"
  case cancelled = "CANCELLED"

  /// A migration is under way.
  public var isUnderWay: Bool { self == .setup || self == .active || self == .device }
}
