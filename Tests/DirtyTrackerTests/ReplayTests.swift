import Addressing
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

@Suite struct ReplayTests {
  @Test(arguments: ContainerKind.allCases)
  func `a replay of the record gives the same state`(kind: ContainerKind) throws {
    for seed in 0..<4 as Range<UInt64> {
      let record = EventRecord(byteCountMax: 1 << 20)
      let fault = FaultPlan.Fault(nil, ordinal: 40 + Int(seed), errno: 5, moment: .halfway)
      let world = try World(kind, record: record, faultingFrom: seed == 0 ? [] : [fault])
      #expect(Session.run(world, seed: seed, steps: 200).isEmpty)
      let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
      #expect(replay.divergences == [])
      #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
      #expect(replay.tracker.mappings(of: world.id) == world.tracker.mappings(of: world.id))
    }
  }

  @Test func `what vCPUs wrote is part of the record`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log, cpu: FixedCPU(), record: record)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
    let reader = try tracker.addConsumer("reader", startsDirty: false)
    _ = tracker.startTracking()
    #expect(tracker.sync(isFinal: false).vcpuDirtyPages == 2)
    tracker.putBack(tracker.harvest(for: reader, pageCountMax: 1, runCountMax: 1))
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == tracker.stateDigest())
    #expect(replay.tracker.log.peek(for: reader, runCountMax: 9) == [World.gpa(3, 2)])
  }

  @Test func `an event left out of the record is another state`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let world = try World(.type1, record: record)
    _ = Session.run(world, seed: 3, steps: 60)
    var events = record.events()
    let index = try #require(events.lastIndex { if case .mapped = $0 { true } else { false } })
    events.remove(at: index)
    let replay = TrackerReplay.replay(events, into: GuestDirtyLog())
    #expect(replay.tracker.stateDigest() != world.tracker.stateDigest())
  }

  @Test func `questions change no state`() throws {
    let world = try World(.type1Mixed)
    _ = Session.run(world, seed: 5, steps: 60)
    let digest = world.tracker.stateDigest()
    let calls = world.faults.callCount
    _ = world.tracker.containers
    _ = world.tracker.mappings(to: World.gpa(0, 4))
    _ = world.tracker.lookup(world.id, IOVA(0))
    _ = world.tracker.migrationBlockers
    #expect(world.tracker.stateDigest() == digest)
    #expect(world.faults.callCount == calls)
  }
}
