import Addressing
import DMAContainer
import DeviceMigration
import DirtyTracker
import EventTrace
import GuestDirtyLog
import PageBitmap
import Simulation
import TestSupport
import Testing
import TraceReplay

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

  @Test func `a container added while tracking is replayed in the steps that started its logs`()
    throws
  {
    let record = EventRecord(byteCountMax: 1 << 20)
    let world = try World(.type1, record: record)
    world.start()
    let faults = FaultPlan([.init(.startLog, ordinal: 1, errno: 12)])
    let other = SimulatedIOMMUFD(name: "other", memory: world.memory, faults: faults)
    _ = other.attachDevice("disk", to: other.allocateHWPT("hwpt"))
    let id = try world.tracker.addContainer(other, addressSpace: .remapped)
    #expect(faults.failedCount == 1)
    try world.tracker.iommuMap(id, World.iova(0, 2), to: GPA(0), permissions: .readWrite)
    world.sync(isFinal: true)
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
  }

  @Test func `what vCPUs wrote is part of the record`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log, cpu: FixedCPU(), record: record)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    _ = tracker.startTracking()
    #expect(tracker.sync(isFinal: false).vcpuDirtyPages == 2)
    tracker.log.putBack(tracker.log.harvest(for: reader, pageCountMax: 1, runCountMax: 1))
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == tracker.stateDigest())
    #expect(replay.tracker.log.peek(for: reader, runCountMax: 9) == [World.gpa(3, 2)])
  }

  @Test func `what a migration takes out of the log is part of the record`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let world = try World(.type1Pinned, record: record, startsDirty: false)
    world.map(0, 4, to: 8)
    var policy = MigrationPolicy()
    policy.harvestPageCountMax = 3
    policy.rehearsedSendFailureCount = 1
    let machine = StillMachine()
    machine.whileSaving = { world.tracker.vcpuWrote(World.gpa(1)) }
    let source = MigrationSource(
      machine: machine, tracking: world.tracker, memory: OnesMemory(), devices: [],
      policy: policy, clock: { 0 })
    world.tracker.log.markAllDirtyForGood(because: "an attempt before")
    _ = try source.run(over: Sink())
    #expect(source.report.pagesPutBack == 3)
    #expect(source.report.totals.pages == 17)
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
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

  @Test func `a late report of a device is replayed with the generation it stated`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let world = try World(.type1Pinned, record: record, startsDirty: false)
    world.map(0, to: 4)
    let before = world.tracker.generation(of: world.id)
    world.unmap(0)
    world.map(0, to: 9)
    world.tracker.deviceWrote(world.id, World.iova(0), since: before)
    #expect(world.dirty == [4, 9])
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
  }

  @Test func `an unmap by the VMM is replayed with what its bitmap did not answer for`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let tracker = DirtyTracker(log: GuestDirtyLog(), record: record)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
    let type1 = SimulatedType1(memory: GenerationMemory(pageCount: 16))
    _ = type1.attachMediatedDevice("mdev")
    let id = try tracker.addContainer(type1, ownership: .vmm, addressSpace: .remapped)
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    try tracker.iommuMap(id, World.iova(0, 4), to: GPA(0), permissions: .readWrite)
    _ = tracker.startTracking()
    var bitmap = try QueryBitmap(byteCountMax: 64)
    try bitmap.reset(window: World.iova(0, 2), pageSize: .fourKiB)
    bitmap.insert(World.iova(1))
    try tracker.iommuUnmapped(id, World.iova(0, 4), dirty: bitmap)
    // Page 0 is clean by the bitmap; of pages 2 and 3 nothing is known.
    #expect(tracker.log.peek(for: reader, runCountMax: 9) == [World.gpa(1, 3)])
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == tracker.stateDigest())
  }

  @Test func `a policy that trusts the guest is part of the record`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let policy = TrackerPolicy(twoStepUnmap: .trustGuest, rearmPageCount: 7)
    let world = try World(.iommufd, policy: policy, record: record)
    #expect(Session.run(world, seed: 8, steps: 100).isEmpty)
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.policy == policy)
    #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
  }

  @Test func `a record whose first events were dropped is replayed as far as it goes`() {
    let events: [[TrackerEvent]] = [
      [.transactionCommitted], [.transactionBegan, .transactionBegan, .transactionCommitted],
    ]
    for events in events {
      let replay = TrackerReplay.replay(events, into: GuestDirtyLog())
      #expect(replay.divergences.count == 1)
    }
  }

  /// What anybody may write into a file, and give it a checksum.
  @Test func `a record cut, doubled and out of order does not trap`() throws {
    let seed = TestSeed.seed(default: 31)
    for (offset, kind) in ContainerKind.allCases.enumerated() {
      let record = EventRecord(byteCountMax: 1 << 20)
      let world = try World(kind, record: record)
      _ = Session.run(world, seed: seed, steps: 60)
      let sound = record.events() + [.transactionBegan, .transactionCommitted]
      var random = SeededGenerator(seed: seed &+ UInt64(offset))
      for _ in 0..<40 {
        var events = sound
        for _ in 0..<(1 + random.below(12)) {
          let one = random.below(events.count)
          let other = random.below(events.count)
          switch random.below(3) {
          case 0: events.remove(at: one)
          case 1: events.insert(events[other], at: one)
          default: events.swapAt(one, other)
          }
        }
        let replay = TrackerReplay.replay(events, into: GuestDirtyLog())
        replay.tracker.log.checkInvariants(mayBeReleasing: true)
      }
    }
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
