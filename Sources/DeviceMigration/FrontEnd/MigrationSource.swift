public import GuestDirtyLog

/// The sending side of a migration: the thin front-end over dirty tracking, devices and stream.
///
/// Terms:
/// - **Round**: one pass over what is dirty while the guest runs, and the sync after it.
/// - **Harvest**: dirty pages taken out of the log; **delivered** when every byte of them was
///   written to the channel, **put back** otherwise.
/// - **Downtime**: from the stop of vCPUs until the destination says that the guest runs.
///
/// Invariants:
/// 1. Blockers are found before anything is changed.
/// 2. A page's bytes are read after the harvest that took it, and a harvest is delivered only when
///    all of it was written; on any failure it is put back.
/// 3. The last sync comes after every vCPU and every device has stopped, and no page is dirty when
///    the stream is complete.
/// 4. A failure before `start` was sent leaves the guest running here: devices RUNNING or reset,
///    and said which; tracking stopped; vCPUs resumed if this migration stopped them. The same
///    objects can begin again.
/// 5. After `start` was sent this side never runs by itself. Where no answer comes, it says so and
///    waits for ``resolve(destinationRuns:)``: one guest running twice is worse than none.
///
/// States, each call to the next; `cancel`, and a failure anywhere, go back to idle:
///
///     idle ─begin─> rounds ─round*─> rounds ─stopAndCopy─> finish ─finish─> done
///                     └────────<─── false ──────┘
///                                                            └─ no answer ─> unknown ─resolve─>
///
/// One thread drives it. ``cancellation`` may be used from any.
public final class MigrationSource {
  public let tracking: any GuestDirtyTracking
  public let devices: [MigratingDevice]
  public let policy: MigrationPolicy
  public let cancellation = CancellationRequest()
  /// To be given from another thread every now and then while a migration is under way.
  public let signOfLife = SignOfLife()
  /// Says to the destination whose stream it is; see ``StreamHello/token``.
  public var token: UInt64 = 0
  public internal(set) var phase = MigrationPhase.idle
  public internal(set) var report = MigrationReport()
  /// `start` was sent and nobody answered.
  public internal(set) var isOutcomeUnknown = false

  let machine: any MigratingMachine
  let memory: any GuestMemory
  let omitting: Set<MigrationOmission>
  let clock: () -> UInt64
  weak var observer: (any MigrationObserver)?
  let driver: DeviceStateDriver

  // One attempt.
  var link: Link?
  var consumer: ConsumerID?
  var isTracking = false
  var wasRunning = false
  var stoppedVCPUs = false
  var wasResumedMeanwhile = false
  var failedFromOutside = false
  /// Of the round under way.
  var pace = PaceMeter()
  var estimator = DowntimeEstimator()
  var pinging = Pinging()
  var rehearsalsLeft = 0
  var hasNotedStall = false
  var throttledPercent = 0
  var cannotThrottle = false
  var lastLookReturnCount = 0
  /// The mark for which everything was sent again after the stop.
  var resentBecause: String?
  /// One for each device.
  var sizeJudges: [DeviceSizeJudge] = []
  var beganAt: UInt64 = 0
  var stoppedAt: UInt64 = 0
  var sourcesAtBegin: [DirtySource: UInt64] = [:]
  var chunkBuffer: [UInt8] = []
  /// The device read last said that its state is at its end.
  var hasEnded = false
  // One round.
  var openedAt: UInt64 = 0
  var openedBytes: UInt64 = 0
  var sourcesAtRound: [DirtySource: UInt64] = [:]

  /// Where the stream of one attempt goes.
  struct Link {
    let channel: any ByteChannel
    let writer: StreamWriter
    /// Nil one-way.
    let answers: StreamReader?
  }

  /// - Parameters:
  ///   - clock: nanoseconds, never going back.
  ///   - observer: held weakly.
  public init(
    machine: any MigratingMachine, tracking: any GuestDirtyTracking, memory: any GuestMemory,
    devices: [MigratingDevice], policy: MigrationPolicy = .init(), clock: @escaping () -> UInt64,
    observer: (any MigrationObserver)? = nil, omitting: Set<MigrationOmission> = []
  ) {
    self.machine = machine
    self.tracking = tracking
    self.memory = memory
    self.devices = devices
    self.policy = policy
    self.clock = clock
    self.observer = observer
    self.omitting = omitting
    self.driver = DeviceStateDriver(
      devices: devices.map(\.device), vm: machine.isRunning ? .running : .paused, clock: clock)
    driver.onDeviceState = { [weak self] in self?.deviceMoved($0) }
    driver.mayStop = { [weak self] in self?.mayStopDevices() ?? true }
  }

  var log: GuestDirtyLog { tracking.log }

  /// Why this VM can not migrate now; empty when it can. Changes nothing.
  public var blockers: [MigrationBlocker] {
    MigrationBlocker.find(
      devices: devices, regions: log.regions, trackingBlockers: tracking.migrationBlockers,
      policy: policy)
  }

  /// All phases, to the end or to the error.
  public func run(over channel: any ByteChannel) throws(MigrationError) -> MigrationReport {
    try begin(over: channel)
    repeat {
      while try round() == .anotherRound {}
    } while try !stopAndCopy()
    return try finish()
  }

  /// Gives up: as after a failure. Before `start` was sent the guest runs on here. From the thread
  /// that drives; others use ``cancellation``.
  public func cancel(because reason: String) -> MigrationAftermath {
    guard phase != .idle, phase != .done else { return MigrationAftermath() }
    if isOutcomeUnknown { return MigrationAftermath() }
    return giveUp(.cancelled(reason))
  }

  /// The VMM's notifier of VM state changes. Drives the devices; may be told from inside
  /// `stopVCPUs` and `resumeVCPUs`, or not at all.
  public func vmStateChanged(_ state: VMState) throws(DeviceError) {
    // While this migration itself resumes vCPUs, the devices are RUNNING already.
    if state == .running, driver.vm != .running, driver.migration.isUnderWay {
      wasResumedMeanwhile = true
    }
    try driver.vmStateChanged(state)
    if state != .running { estimator.walked(driver.stepNanoseconds) }
  }

  /// The VMM's notifier of migration state changes. FAILED and CANCELLED end this migration before
  /// its next step; the others are this object's to make.
  public func migrationStateChanged(_ status: MigrationStatus) {
    guard driver.migration.isUnderWay else { return }
    if status == .cancelled { cancellation.cancel(because: "the VMM cancelled the migration") }
    if status == .failed { failedFromOutside = true }
  }

  // MARK: shared by the phases

  func attempt<R>(
    _ here: MigrationPhase, _ body: () throws(MigrationError.Cause) -> R
  ) throws(MigrationError) -> R {
    do throws(MigrationError.Cause) {
      let result = try body()
      return result
    } catch {
      let aftermath = giveUp(error)
      throw MigrationError(phase: here, cause: error, aftermath: aftermath)
    }
  }

  func checkInterruptions() throws(MigrationError.Cause) {
    if let reason = cancellation.requested { throw .cancelled(reason) }
    if failedFromOutside { throw .cancelled("the VMM says that the migration failed") }
    if wasResumedMeanwhile { throw .resumedMeanwhile }
  }

  func setStatus(_ status: MigrationStatus) throws(MigrationError.Cause) {
    report.status = status
    observer?.migration(.status(status))
    try onDevices { (driver) throws(DeviceError) in try driver.migrationStateChanged(status) }
  }

  func onDevices(
    _ body: (DeviceStateDriver) throws(DeviceError) -> Void
  ) throws(MigrationError.Cause) {
    do throws(DeviceError) {
      try body(driver)
    } catch {
      throw .device(error)
    }
  }

  func write(
    _ body: (StreamWriter) throws(ChannelError) -> Void
  ) throws(MigrationError.Cause) {
    guard let link else { preconditionFailure("no attempt is under way") }
    do throws(ChannelError) {
      try body(link.writer)
    } catch {
      throw cause(of: error)
    }
  }

  /// A channel that was shut down because somebody asked for the end is not what went wrong.
  func cause(of error: ChannelError) -> MigrationError.Cause {
    if let reason = cancellation.requested { return .cancelled(reason) }
    return refusal(behind: error) ?? .channel(error)
  }

  func note(_ sentence: String) {
    guard !report.notes.contains(sentence) else { return }
    report.notes.append(sentence)
    observer?.migration(.note(sentence))
  }

  private func deviceMoved(_ device: any MigratableDevice) {
    guard let index = report.devices.firstIndex(where: { $0.name == device.name }) else { return }
    let known = report.devices[index].states
    guard known.last != device.state else { return }
    report.devices[index].states.append(device.state)
    observer?.migration(.deviceState(device: device.name, state: device.state))
  }
}
