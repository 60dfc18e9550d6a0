/// Drives the states of all devices of a VM by what the VM and a migration are in: the state-change
/// table of DESIGN, nothing else. The front-end uses it; so can a VMM with a migration engine of
/// its own, from its notifiers.
///
///     change told                      devices
///     migration SETUP                  all: begin pre-copy
///     VM FINISH_MIGRATE or PAUSED,     all: to P2P; when all are, all: STOP_COPY
///       a migration under way
///     migration COMPLETED              all: STOP
///     migration FAILED, CANCELLED      all: recover; where the VM is stopped, to P2P and STOP
///     VM PAUSED, no migration          all: to P2P; when all are, all: STOP
///     VM RUNNING                       all: ready to run; when all are, all: RUNNING
///
/// Invariants:
/// 1. No device leaves a P2P phase before every device has reached it.
/// 2. A change that is told twice does nothing the second time.
/// 3. `recover` goes to every device, also when one fails to come back.
public final class DeviceStateDriver {
  public let devices: [any MigratableDevice]
  public private(set) var vm: VMState
  public private(set) var migration: MigrationStatus = .none
  /// Called after each step of a device, with the state the device says it is in.
  public var onDeviceState: ((any MigratableDevice) -> Void)?
  /// Nanoseconds the last walk of each phase took, all devices.
  public private(set) var preparedNanoseconds: UInt64 = 0
  public private(set) var finishedNanoseconds: UInt64 = 0
  /// The same of each device, in the walk that came last.
  private(set) var stepNanoseconds: [UInt64] = []
  /// Asked between the two walks of a stop for a migration, when every device is in P2P: false
  /// holds them there, for ``leaveP2P()``.
  var mayStop: (() -> Bool)?
  private(set) var isHeldInP2P = false
  private let clock: () -> UInt64
  private var isSaving = false

  public init(
    devices: [any MigratableDevice], vm: VMState, clock: @escaping () -> UInt64 = { 0 }
  ) {
    self.devices = devices
    self.vm = vm
    self.clock = clock
  }

  /// The VM is in `state`: all its vCPUs are, not some.
  public func vmStateChanged(_ state: VMState) throws(DeviceError) {
    guard state != vm else { return }
    let before = vm
    vm = state
    switch state {
    case .running:
      isSaving = false
      try inTwoPhases({ (device) throws(DeviceError) in try device.prepareToRun() }) {
        (device) throws(DeviceError) in try device.run()
      }
    case .finishMigrate, .paused:
      // FINISH_MIGRATE after PAUSED: the devices are where the pause brought them.
      if migration.isUnderWay {
        guard !isSaving else { return }
        isSaving = true
        try inTwoPhases(
          { (device) throws(DeviceError) in try device.enterP2P() },
          { (device) throws(DeviceError) in try device.beginStopCopy() },
          mayGoOn: {
            // A VM that was paused by hand stays where it is.
            guard state == .finishMigrate, before == .running else { return true }
            self.isHeldInP2P = self.mayStop?() == false
            return !self.isHeldInP2P
          })
      } else if before == .running || state == .paused {
        // After FINISH_MIGRATE as well: a migration that failed there brought the devices back.
        try stopAll()
      }
    }
  }

  public func migrationStateChanged(_ status: MigrationStatus) throws(DeviceError) {
    guard status != migration else { return }
    migration = status
    switch status {
    case .setup:
      isSaving = false
      isHeldInP2P = false
      try each { (device) throws(DeviceError) in try device.beginPrecopy() }
    case .completed:
      try each { (device) throws(DeviceError) in try device.finishSaving() }
    case .failed, .cancelled:
      _ = recoverAll()
    case .none, .active, .device:
      break
    }
  }

  /// From where ``mayStop`` held them back to pre-copy, or to RUNNING: the VM goes on.
  func leaveP2P() throws(DeviceError) {
    precondition(isHeldInP2P, "the devices are not held in P2P")
    isHeldInP2P = false
    isSaving = false
    vm = .running
    try each { (device) throws(DeviceError) in try device.leaveP2P() }
  }

  /// Brings every device back to where the VM is. What a device lost is in the answer.
  public func recoverAll() -> [DeviceAftermath] {
    isSaving = false
    isHeldInP2P = false
    var aftermath: [DeviceAftermath] = []
    for device in devices {
      var result: Result<DeviceRecovery, DeviceError>
      do throws(DeviceError) {
        result = .success(try device.recover())
      } catch {
        result = .failure(error)
      }
      onDeviceState?(device)
      aftermath.append(DeviceAftermath(device: device.name, result: result))
    }
    if vm == .paused {
      do throws(DeviceError) {
        try stopAll()
      } catch {
        aftermath.append(DeviceAftermath(device: error.object, result: .failure(error)))
      }
    }
    return aftermath
  }

  /// `recoverAll` for a front-end that resumes vCPUs right after: a VM that was stopped for the
  /// migration counts as running, so that its devices stay RUNNING and a notifier that says so
  /// later changes nothing.
  func recoverAll(resumes: Bool) -> [DeviceAftermath] {
    if resumes { vm = .running } else if vm == .finishMigrate { vm = .paused }
    return recoverAll()
  }

  /// What the VM is in while no migration is under way, where its notifiers did not say so.
  func vmIs(_ state: VMState) { vm = state }

  /// The attempt is over, and its devices have been seen to.
  func endAttempt(_ status: MigrationStatus) { migration = status }

  private func stopAll() throws(DeviceError) {
    try inTwoPhases({ (device) throws(DeviceError) in try device.enterP2P() }) {
      (device) throws(DeviceError) in try device.stop()
    }
  }

  private func inTwoPhases(
    _ first: (any MigratableDevice) throws(DeviceError) -> Void,
    _ second: (any MigratableDevice) throws(DeviceError) -> Void,
    mayGoOn: () -> Bool = { true }
  ) throws(DeviceError) {
    let begin = clock()
    try each(first)
    let middle = clock()
    preparedNanoseconds = middle &- begin
    finishedNanoseconds = 0
    guard mayGoOn() else { return }
    try each(second)
    finishedNanoseconds = clock() &- middle
  }

  private func each(_ step: (any MigratableDevice) throws(DeviceError) -> Void) throws(DeviceError)
  {
    stepNanoseconds = []
    for device in devices {
      defer { onDeviceState?(device) }
      let began = clock()
      try step(device)
      stepNanoseconds.append(clock() &- began)
    }
  }
}

/// What became of one device after a migration failed.
public struct DeviceAftermath: Sendable, Hashable, CustomStringConvertible {
  public let device: String
  public let result: Result<DeviceRecovery, DeviceError>

  public static func == (left: DeviceAftermath, right: DeviceAftermath) -> Bool {
    left.device == right.device && left.result == right.result
  }

  public var isLost: Bool { if case .failure = result { true } else { false } }

  public var description: String {
    switch result {
    case .success(let recovery): "device \(device): \(recovery)"
    case .failure(let error): "\(error)"
    }
  }
}
