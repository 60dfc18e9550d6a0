import Addressing
import DeviceMigration
import DirtyTracker
import EventTrace
import GuestDirtyLog
import MigrationTransport
import Simulation
import TestSupport
import Testing
import TraceReplay

@Suite struct SampleMigrationTests {
  @Test func `whatever the seed, every page and every device arrives`() throws {
    let base = TestSeed.seed(default: 100)
    for seed in base..<base + 8 {
      let world = try SampleWorld(seed: seed, deviceCount: [4, 1, 3, 8][Int(seed % 4)])
      let outcome = world.migrate()
      #expect(outcome.source == nil && outcome.destination == nil)
      #expect(world.differences == [], "\(world.reproduce("SampleMigrationTests"))")
      // Otherwise an equal verdict would prove nothing.
      #expect(world.deviceOnlyPageCount > 10)
    }
  }

  @Test func `a device that is reconfigured as its guest stops sends the guest back for a round`()
    throws
  {
    for seed in [1, 3, 5] as [UInt64] {
      let world = try SampleWorld(seed: seed)
      world.policy.notConverging = .giveUp(afterRounds: 20)
      world.policy.downtimeLimitNanoseconds = .max - 1
      #expect(world.migrate().source == nil)
      #expect(world.differences == [])
      #expect(world.report.returnedNanoseconds > 0)
      #expect(world.report.notes.contains { $0.contains("the guest ran on for another round") })
      #expect(world.report.stopReason == .stop)
    }
  }

  @Test func `a sample whose vCPUs are throttled writes that much less`() throws {
    func writes(_ percent: Int) throws -> UInt64 {
      let world = try SampleWorld(seed: 45)
      #expect(try world.source.throttleVCPUs(percent: percent))
      let before = world.source.vcpuWriteCount
      world.run(stepCount: 10_000)
      return world.source.vcpuWriteCount - before
    }
    let all = try writes(0)
    #expect(all > 1000)
    let quarter = try writes(75)
    #expect(quarter > all / 5 && quarter < all / 3)
  }

  @Test(arguments: [
    DeviceSizeClaim.impossible, .neverFalls(5 << 20), .rises(1 << 40), .neverFalls(1 << 47),
  ])
  func `a device that claims sizes it cannot have does not hold the stop off, and is named`(
    claim: DeviceSizeClaim
  ) throws {
    for deviceCount in [1, 4] {
      let world = try SampleWorld(seed: 44, deviceCount: deviceCount)
      // Nothing but the devices' own words could keep it from stopping.
      world.policy.notConverging = .giveUp(afterRounds: 12)
      world.policy.downtimeLimitNanoseconds = .max - 1
      world.deviceFaults.claim(claim)
      let outcome = world.migrate()
      #expect(outcome.source == nil && outcome.destination == nil, "\(claim)")
      #expect(world.differences.count == 0)
      #expect(world.report.rounds.count <= 9, "\(world.report.rounds.count) rounds")
      #expect(world.report.notes.contains { $0.hasPrefix("device nic0 claims ") })
    }
  }

  @Test func `one seed is one run`() throws {
    let worlds = try (0..<2).map { _ in try SampleWorld(seed: 42) }
    for world in worlds { _ = world.migrate() }
    #expect(worlds[0].source.ram.pageDigests() == worlds[1].source.ram.pageDigests())
    #expect(worlds[0].report.streamBytes == worlds[1].report.streamBytes)
    #expect(worlds[0].source.tracker.stateDigest() == worlds[1].source.tracker.stateDigest())
    let other = try SampleWorld(seed: 43)
    _ = other.migrate()
    #expect(other.source.ram.pageDigests() != worlds[0].source.ram.pageDigests())
  }

  @Test(arguments: TrackerOmission.allCases)
  func `a step the tracker leaves out shows as pages that differ`(
    omission: TrackerOmission
  ) throws {
    var found = 0
    for seed in 0..<4 as Range<UInt64> {
      let world = try SampleWorld(seed: seed, omitting: [omission])
      #expect(world.migrate().source == nil)
      found += world.differences.filter { $0.hasPrefix("page") }.count
    }
    #expect(found > 0, "\(omission)")
  }

  @Test func `a put-back that is left out shows as pages that differ`() throws {
    for seed in 0..<4 as Range<UInt64> {
      let world = try SampleWorld(seed: seed, migrationOmitting: [.putBack])
      #expect(world.migrate().source == nil)
      #expect(world.differences.contains { $0.hasPrefix("page") })
    }
  }

  @Test func `the calls of a sync are few and apart from those of maps`() throws {
    let world = try SampleWorld(seed: 7)
    _ = world.migrate()
    let rounds = world.report.rounds
    // Of round 7, say, 220 are iommufd's. Both of its page tables are asked for each contiguous
    // run of IOVA, since neither may be asked across a hole, and a run has a mapping or more. So
    // calls follow what the guest has mapped, and that grows: this seed has its device
    // reconfigured as the guest stops, which makes rounds 5 to 7.
    #expect(rounds.count == world.mappingCounts.count)
    for (round, mappings) in zip(rounds, world.mappingCounts) {
      let calls = round.sync.containers.map(\.backendCallCount)
      #expect(calls[0] > 0 && calls[0] <= 2 * mappings[0], "round \(round.number): \(calls)")
      // Pinned pages are asked for across holes: all of them lie in a few windows.
      #expect(calls[1] > 0 && calls[1] <= 4, "round \(round.number): \(calls)")
      // A device's log is asked for each of its ranges, and may be stopped and started again.
      #expect(calls[2] > 0 && calls[2] <= 8 + 2, "round \(round.number): \(calls)")
    }
    let syncs = rounds.reduce(0) { $0 + $1.backendCallCount }
    let maps = rounds.reduce(0) { $0 + $1.mappingCallCount }
    #expect(world.report.backendCallCount >= syncs && world.report.mappingCallCount >= maps)
    #expect(
      world.report.backendCallCount + world.report.mappingCallCount >= world.faults.callCount)
  }
}

@Suite struct SampleReplayTests {
  @Test func `a migration is replayed from its trace to the same state`() throws {
    for seed in 0..<3 as Range<UInt64> {
      let record = EventRecord(byteCountMax: 16 << 20)
      let world = try SampleWorld(seed: seed, record: record)
      _ = world.migrate()
      #expect(world.differences == [])
      let trace = TraceReader(record.encoded())
      #expect(trace.isComplete)
      let replay = try TrackerReplay.replay(trace)
      #expect(replay.divergences == [])
      #expect(replay.tracker.stateDigest() == world.source.tracker.stateDigest())
      #expect(replay.tracker.containers == world.source.tracker.containers)
    }
  }

  @Test func `a migration that failed, and the one after it, are replayed too`() throws {
    let record = EventRecord(byteCountMax: 16 << 20)
    let world = try SampleWorld(seed: 3, record: record)
    world.failingWrite = 60
    #expect(world.migrate().source != nil)
    let first = try TrackerReplay.replay(TraceReader(record.encoded()))
    #expect(first.tracker.stateDigest() == world.source.tracker.stateDigest())
    #expect(try world.migrateAgain() == nil)
    let both = try TrackerReplay.replay(TraceReader(record.encoded()))
    #expect(both.tracker.stateDigest() == world.source.tracker.stateDigest())
    #expect(both.divergences == [])
  }

  @Test func `a harvest left out of the record shows`() throws {
    let record = EventRecord(byteCountMax: 16 << 20)
    let world = try SampleWorld(seed: 4, record: record)
    world.failingWrite = 60
    _ = world.migrate()
    var events = record.events()
    let index = try #require(
      events.lastIndex { if case .log(.taken) = $0 { true } else { false } })
    events.remove(at: index)
    let replay = TrackerReplay.replay(events, into: GuestDirtyLog())
    #expect(
      replay.tracker.stateDigest() != world.source.tracker.stateDigest()
        || !replay.divergences.isEmpty)
  }

  @Test func `a record that dropped events, and one without a beginning, are refused`() throws {
    let record = EventRecord(eventCountMax: 64, byteCountMax: 16 << 20)
    let world = try SampleWorld(seed: 5, record: record)
    _ = world.migrate()
    let trace = TraceReader(record.encoded())
    #expect(trace.damage == nil && !trace.isComplete)
    #expect(throws: TraceRefusal.eventsMissing(record.droppedCount)) {
      try TrackerReplay.replay(trace)
    }
    #expect(throws: TraceRefusal.noBeginning) { try TrackerReplay.replay(TraceReader([])) }
  }
}
