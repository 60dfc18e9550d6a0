import Addressing
import DeviceMigration
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Simulation
import TestSupport

/// A sample machine that one seed steps, and another to which it migrates, all on one thread: equal
/// seeds are equal runs.
final class SampleWorld: MigrationObserver {
  let seed: UInt64
  let source: SampleMachine
  private(set) var destination: SampleMachine
  let faults: FaultPlan
  let deviceFaults: DeviceFaults
  let destinationFaults = DeviceFaults()
  var failingWrite = Int.max
  private(set) var writeCount = 0
  private(set) var events: [MigrationEvent] = []
  /// Mappings of each container as the sync of each round found them.
  private(set) var mappingCounts: [[Int]] = []
  private let options: SampleOptions
  private var scheduler: SeededScheduler
  private var now: UInt64 = 0
  private var hasOpenedQueues = false
  private lazy var migration = makeSource()
  private let omitting: Set<MigrationOmission>
  private let stepsPerEvent: Int
  /// Before the first attempt.
  var policy = MigrationPolicy()

  init(
    seed: UInt64, memoryMiB: UInt64 = 2, omitting: Set<TrackerOmission> = [],
    migrationOmitting: Set<MigrationOmission> = [], record: EventRecord? = nil,
    deviceCount: Int = 4, stepsPerEvent: Int = 40
  ) throws {
    self.seed = seed
    self.omitting = migrationOmitting
    self.stepsPerEvent = stepsPerEvent
    var options = SampleOptions()
    options.memoryByteCount = memoryMiB << 20
    options.deviceCount = deviceCount
    options.seed = seed
    options.marksVCPUWrites = true
    options.devicePageCountMax = 4
    self.options = options
    policy.guestUsesPeerToPeer = false
    policy.roundCountMin = 3
    policy.notConverging = .stopAnyway(afterRounds: 3)
    policy.harvestPageCountMax = 128
    faults = FaultPlan()
    deviceFaults = DeviceFaults()
    options.omitting = omitting
    options.record = record
    options.containerFaults = faults
    options.deviceFaults = deviceFaults
    source = try SampleMachine(options)
    destination = try Self.empty(self.options, destinationFaults)
    try source.boot()
    scheduler = source.startStepped(seed: seed)
    scheduler.run(stepCount: 400)
    faults.reset()
  }

  private static func empty(
    _ options: SampleOptions, _ faults: DeviceFaults
  ) throws -> SampleMachine {
    var options = options
    options.deviceFaults = faults
    return try SampleMachine(options)
  }

  private func makeSource() -> MigrationSource {
    return MigrationSource(
      machine: source, tracking: source.tracker, memory: source.ram,
      devices: source.migratingDevices, policy: policy,
      clock: { [unowned self] in
        self.now += 1000
        return self.now
      }, observer: self, omitting: omitting)
  }

  /// The guest runs between any two steps of the migration.
  func migration(_ event: MigrationEvent) {
    events.append(event)
    if case .roundEnded = event {
      mappingCounts.append(source.tracker.containers.map(\.mappingCount))
    }
    if case .roundEnded(let round, _) = event, round.number == 1 {
      source.ledger.reset()
      // Refused where a backend call was made to fail; a driver then does without.
      if !hasOpenedQueues { try? source.openQueues() }
      hasOpenedQueues = true
    }
    // The guest reconfigures a device in the middle, and again just before it is stopped.
    if case .roundEnded(let round, _) = event, round.number == 2 {
      deviceFaults.restartInitialData(1)
    }
    if case .stopping = event { deviceFaults.restartInitialData(seed % 2 == 0 ? 0 : 1) }
    scheduler.run(stepCount: stepsPerEvent)
  }

  /// The guest runs for a while.
  func run(stepCount: Int) { scheduler.run(stepCount: stepCount) }

  /// One attempt, to a machine of its own.
  func migrate() -> (source: MigrationError?, destination: MigrationError?) {
    let link = MemoryLink { [self] call in
      guard call == "memory, source write" else { return false }
      writeCount += 1
      return writeCount >= failingWrite
    }
    writeCount = 0
    let receiver = MigrationDestination(
      machine: destination, memory: destination.ram, regions: destination.ram.ramRegions,
      devices: destination.devices.map(\.migratable))
    let attempt = link.run(migration, to: receiver)
    return (attempt.sourceError, attempt.destinationError)
  }

  /// The same machine once more, with nothing that fails.
  func migrateAgain() throws -> MigrationError? {
    faults.reset()
    failingWrite = .max
    destination = try Self.empty(options, DeviceFaults())
    scheduler.run(stepCount: 100)
    return migrate().source
  }

  var report: MigrationReport { migration.report }

  /// What is not as it should be after a migration that succeeded.
  var differences: [String] {
    var found: [String] = []
    for (page, (here, there)) in zip(source.ram.pageDigests(), destination.ram.pageDigests())
      .enumerated() where here != there
    {
      found.append("page \(page) differs")
    }
    for (here, there) in zip(source.devices, destination.devices) {
      if here.stateDigest != there.stateDigest { found.append("state of \(here.name) differs") }
      if here.configurationDigest != there.configurationDigest {
        found.append("configuration of \(here.name) differs")
      }
      if there.migratable.state != .running { found.append("\(there.name) does not run") }
    }
    if source.isRunning { found.append("the source runs") }
    if !destination.isRunning { found.append("the destination does not run") }
    return found + trackingLeft
  }

  /// What is not as it should be after a migration that failed.
  var leftovers: [String] {
    var found: [String] = []
    if !source.isRunning { found.append("the source does not run") }
    if destination.isRunning { found.append("the destination runs") }
    for device in source.devices where device.migratable.state != .running {
      found.append("\(device.name) is in \(device.migratable.state)")
    }
    return found + trackingLeft
  }

  private var trackingLeft: [String] {
    var found = source.tracker.containers.filter(\.isTracking).map { "\($0.name) is tracked" }
    if source.tracker.heldBackPageCount > 0 { found.append("pages are held back still") }
    return found
  }

  var deviceOnlyPageCount: Int { source.ledger.pagesOnlyDevicesWrote().count }

  func reproduce(_ suite: String) -> String { TestSeed.reproduce(seed, filter: suite) }
}
