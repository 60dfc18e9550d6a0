import Addressing
import DeviceMigration
import GuestDirtyLog
import Locking
import TestSupport

/// Dirty tracking as hardware does it: writes wait until a sync asks for them.
final class ScriptedTracking: GuestDirtyTracking {
  let log = GuestDirtyLog()
  private let state = Mutex(State())
  private let plan: CallPlan
  /// A planted fault: the last sync does nothing.
  let forgetsFinalSync: Bool

  private struct State {
    var isOn = false
    var written: Set<UInt64> = []
    var pinned: Set<UInt64> = []
    var blockers: [String] = []
    var isBlind = false
  }

  init(plan: CallPlan, forgetsFinalSync: Bool = false) {
    self.plan = plan
    self.forgetsFinalSync = forgetsFinalSync
  }

  var isOn: Bool { state.withLock { $0.isOn } }
  var migrationBlockers: [String] { state.withLock { $0.blockers } }
  func block(_ sentence: String) { state.withLock { $0.blockers.append(sentence) } }

  /// - Parameter pinned: held back until the final sync.
  func wrote(_ gpa: GPA, pinned: Bool = false) {
    state.withLock { state in
      guard state.isOn, !state.isBlind else { return }
      _ = pinned ? state.pinned.insert(gpa.rawValue) : state.written.insert(gpa.rawValue)
    }
  }

  /// Sees nothing from here on, and says so with a mark that stays.
  func loseSight(because reason: String) {
    state.withLock { $0.isBlind = true }
    log.markAllDirtyForGood(because: reason)
  }

  func startTracking() -> SyncReport {
    _ = plan.call("tracking start")
    state.withLock { $0.isOn = true }
    return SyncReport()
  }

  func sync(isFinal: Bool) -> SyncReport {
    plan.journal.append(isFinal ? "tracking final sync" : "tracking sync")
    var report = SyncReport(isFinal: isFinal)
    if isFinal && forgetsFinalSync { return report }
    let pages = state.withLock { state -> Set<UInt64> in
      defer {
        state.written = []
        if isFinal { state.pinned = [] }
      }
      return isFinal ? state.written.union(state.pinned) : state.written
    }
    var share = SyncReport.ContainerShare(container: ContainerID(0), name: "scripted")
    share.backendCallCount = 1
    for page in pages {
      let range = AddressRange(first: GPA(page), last: GPA(page + 4095))
      share.newlyDirtyPages += log.mark(range, by: .deviceQuery(ContainerID(0))).newlyDirtyPages
      share.dirtyPages += 1
    }
    report.containers = [share]
    return report
  }

  func stopTracking() -> SyncReport {
    plan.journal.append("tracking stop")
    state.withLock { $0 = State() }
    return SyncReport()
  }

  var heldBackPageCount: UInt64 { state.withLock { UInt64($0.pinned.count) } }
}

/// A guest with four devices on one side, room for it on the other. All from one seed.
final class FrontEndWorld: MigrationObserver {
  let plan = CallPlan()
  let sourceMemory: ArrayMemory
  let destinationMemory: ArrayMemory
  let tracking: ScriptedTracking
  let sourceMachine: ScriptedMachine
  let destinationMachine: ScriptedMachine
  let sourceDevices: [ScriptedDevice]
  let destinationDevices: [ScriptedDevice]
  var random: SeededGenerator
  var policy = MigrationPolicy()
  var omitting: Set<MigrationOmission> = []
  /// Writes of the guest at each event while it runs.
  var writesPerEvent = 3
  var events: [MigrationEvent] = []
  var onEvent: ((MigrationEvent) -> Void)?
  private(set) var now: UInt64 = 0
  private(set) lazy var source = makeSource()
  private(set) lazy var destination = makeDestination()

  static let all: MigrationFeatures = [.stopCopy, .p2p, .precopy]

  init(
    seed: UInt64, pageCount: Int = 24, deviceCount: Int = 4, forgetsFinalSync: Bool = false
  ) {
    random = SeededGenerator(seed: seed)
    sourceMemory = ArrayMemory(pageCount: pageCount)
    destinationMemory = ArrayMemory(pageCount: pageCount)
    tracking = ScriptedTracking(plan: plan, forgetsFinalSync: forgetsFinalSync)
    sourceMachine = ScriptedMachine("source", isRunning: true, state: [1, 2, 3], plan: plan)
    destinationMachine = ScriptedMachine("destination", isRunning: false, state: [], plan: plan)
    let all: [(String, MigrationInterface, Int)] = [
      ("v1", .v1, 150), ("full", .v2(Self.all), 250), ("plain", .v2([.stopCopy, .p2p]), 0),
      ("precopy", .v2([.stopCopy, .p2p, .precopy]), 30),
    ]
    let kinds = all.prefix(deviceCount)
    let plan = plan
    sourceDevices = kinds.enumerated().map { index, kind in
      let contents = (0..<(200 + 100 * index)).map { UInt8(truncatingIfNeeded: $0 * 7 + index) }
      return ScriptedDevice(
        kind.0, kind.1, contents: contents, precopyLimit: kind.2, plan: plan)
    }
    destinationDevices = kinds.map {
      ScriptedDevice($0.0, $0.1, contents: [], plan: plan)
    }
    policy.guestUsesPeerToPeer = false
    policy.harvestPageCountMax = 7
    policy.devicePrecopyThresholdBytes = 0
    policy.notConverging = .stopAnyway(afterRounds: 4)
    policy.downtimeLimitNanoseconds = 1
    try! tracking.log.addRegion(sourceMemory.region)
    for page in 0..<pageCount where page % 3 != 0 {
      sourceMemory.fill(page: page, with: random.next() | 1)
      destinationMemory.fill(page: page / 2, with: 99)
    }
    for (index, device) in sourceDevices.enumerated() {
      device.lastDMA = { [unowned self] in self.write(page: index, pinned: index == 0) }
    }
  }

  private func makeSource() -> MigrationSource {
    MigrationSource(
      machine: sourceMachine, tracking: tracking, memory: sourceMemory,
      devices: sourceDevices.map { MigratingDevice($0) }, policy: policy,
      clock: { [unowned self] in
        self.now += 1000
        return self.now
      }, observer: self, omitting: omitting)
  }

  private func makeDestination() -> MigrationDestination {
    MigrationDestination(
      machine: destinationMachine, memory: destinationMemory,
      regions: [destinationMemory.region], devices: destinationDevices)
  }

  func write(page: Int, pinned: Bool = false) {
    // A page is zero again now and then.
    sourceMemory.fill(page: page, with: random.once(in: 5) ? 0 : random.next() | 1)
    let gpa = GPA(sourceMemory.first.rawValue + UInt64(page) * 4096)
    tracking.wrote(gpa, pinned: pinned)
  }

  /// A write that goes to the log itself, as the VMM's own devices report theirs.
  func reportLate(page: Int) {
    sourceMemory.fill(page: page, with: random.next() | 1)
    let first = GPA(sourceMemory.first.rawValue + UInt64(page) * 4096)
    tracking.log.mark(AddressRange(first: first, last: first), by: .vcpu)
  }

  func migration(_ event: MigrationEvent) {
    events.append(event)
    onEvent?(event)
    guard sourceMachine.isRunning, !destinationMachine.isRunning else { return }
    for _ in 0..<(writesPerEvent * (100 - sourceMachine.throttledPercent) / 100) {
      let page = random.below(sourceMemory.pageCount)
      write(page: page, pinned: page % 8 == 7)
    }
  }

  /// One attempt over a link in memory.
  /// - Returns: what each side threw.
  @discardableResult
  func migrate() -> (source: MigrationError?, destination: MigrationError?) {
    let attempt = MemoryLink(plan: plan).run(source, to: destination)
    return (attempt.sourceError, attempt.destinationError)
  }

  /// What is wrong after a migration that succeeded; empty when nothing is.
  var differences: [String] {
    var found = sourceMemory.differingPages(destinationMemory).map { "page \($0) differs" }
    for (here, there) in zip(sourceDevices, destinationDevices) {
      if here.contents != there.contents { found.append("state of \(here.name) differs") }
      if there.state != .running { found.append("\(there.name) is in \(there.state)") }
      if here.state != .stop { found.append("\(here.name) at the source is in \(here.state)") }
      let expected = here.interface == .v1 ? "" : "configuration of \(here.name)"
      if there.configuration != Array(expected.utf8) {
        found.append("configuration of \(here.name) differs")
      }
    }
    if sourceMachine.state != destinationMachine.state { found.append("machine state differs") }
    if sourceMachine.isRunning { found.append("the source still runs") }
    if !destinationMachine.isRunning { found.append("the destination does not run") }
    if tracking.isOn { found.append("tracking is still on") }
    if tracking.log.hasConsumers { found.append("the log has a reader still") }
    if !destinationMemory.canariesHold { found.append("a byte outside RAM was written") }
    return found
  }

  /// What is wrong after a migration that failed and left the guest at the source.
  var leftovers: [String] {
    var found: [String] = []
    if !sourceMachine.isRunning { found.append("the source does not run") }
    if destinationMachine.isRunning { found.append("the destination runs") }
    if tracking.isOn { found.append("tracking is still on") }
    if tracking.log.hasConsumers { found.append("the log has a reader still") }
    if sourceMachine.throttledPercent > 0 { found.append("the source is throttled") }
    for device in sourceDevices where device.state != .running {
      found.append("\(device.name) at the source is in \(device.state)")
    }
    if !destinationMemory.canariesHold { found.append("a byte outside RAM was written") }
    return found
  }
}
