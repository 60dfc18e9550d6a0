import Addressing
import DMAContainer
import DirtyTracker
import Dispatch
import EventTrace
import GuestDirtyLog
import Locking
import Simulation
import TestSupport
import Testing
import TraceReplay

/// Containers record side by side. What one of them does in the middle of what another does, or a
/// reader of the log, comes out of a replay as it went in.
@Suite struct RecordOrderTests {
  @Test(arguments: [ContainerKind.type1, .type1Pinned, .type1DeviceLog, .iommufd])
  func `what others do in the middle of an operation is replayed in its place`(
    kind: ContainerKind
  ) throws {
    var count = 0
    for work in OrderWorld.Work.allCases {
      for step in OrderWorld.Step.allCases where step.fits(work) {
        var gap = 0
        while gap < 40 {
          let world = try OrderWorld(kind, gap: gap)
          let wasThere = world.run(work, interrupting: step)
          #expect(world.differences == [], "\(work), \(step) in gap \(gap)")
          count += 1
          if !wasThere { break }
          gap += 1
        }
      }
    }
    #expect(count > 200)
  }

  @Test func `a mark that keeps the place of its operation is noticed`() throws {
    var found = 0
    for work in OrderWorld.Work.allCases {
      for gap in 0..<6 {
        let world = try OrderWorld(.type1Pinned, gap: gap, omitsOrder: true)
        _ = world.run(work, interrupting: .harvest)
        if world.differences != [] { found += 1 }
      }
    }
    #expect(found > 0)
  }

  /// Threads of their own for two containers, their devices, syncs, two readers and RAM.
  @Test(arguments: ContainerKind.allCases)
  func `a record of threads that meet is replayed to the state they left`(
    kind: ContainerKind
  ) throws {
    let record = EventRecord(eventCountMax: 1 << 18, byteCountMax: 64 << 20)
    let world = try World(kind, record: record, log: OrderWorld.log())
    let (second, ports) = try world.addSecond()
    for page in 0..<8 as Range<UInt64> { world.map(page, to: page) }
    world.start()
    let (tracker, reader, id) = (world.tracker, world.reader, world.id)
    let allPorts = world.ports + ports
    let work: [@Sendable (inout SeededGenerator) -> Void] = [
      { random in
        _ = allPorts[random.below(allPorts.count)].touch(IOVA(random.below(8 as UInt64) << 12))
      },
      { random in World.mapOrUnmap(tracker, id, &random) },
      { random in World.mapOrUnmap(tracker, second, &random) },
      { random in _ = tracker.sync(isFinal: random.once(in: 9)) },
      { random in World.takeSome(tracker, reader, &random) },
      { random in
        guard let other = try? tracker.log.addConsumer("other", startsDirty: random.once(in: 2))
        else { return }
        _ = tracker.log.harvest(for: other, pageCountMax: 5, runCountMax: 5)
        tracker.log.removeConsumer(other)
      },
      { random in
        let region = RAMRegion(name: "extra", gpa: World.gpa(64, 8))
        try? tracker.regionAdded(region)
        tracker.vcpuWrote(World.gpa(random.below(72 as UInt64)))
        try? tracker.regionRemoved(region)
      },
    ]
    DispatchQueue.concurrentPerform(iterations: work.count) { worker in
      var random = SeededGenerator(seed: TestSeed.seed(default: 5) &+ UInt64(worker))
      for _ in 0..<200 { work[worker](&random) }
    }
    #expect(record.droppedCount == 0)
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == tracker.stateDigest())
    #expect(
      replay.tracker.log.peek(for: reader, runCountMax: 999)
        == tracker.log.peek(for: reader, runCountMax: 999))
  }

  @Test func `an unmap does not wait for another container's backend, recorded or not`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let memory = GenerationMemory(pageCount: 16)
    let tracker = DirtyTracker(log: GuestDirtyLog(), record: record)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
    let isDone = Mutex(false)
    let second = Mutex<ContainerID?>(nil)
    var hooks = HookedContainer.Hooks()
    hooks.beforeUnmap = { _ in
      // From another thread: it would wait for ever if one lock were held over this call.
      let finished = DispatchSemaphore(value: 0)
      DispatchQueue.global().async {
        if let id = second.withLock({ $0 }) { try? tracker.iommuUnmap(id, World.iova(0)) }
        finished.signal()
      }
      let wasInTime = finished.wait(timeout: .now() + 10) == .success
      isDone.withLock { $0 = wasInTime }
    }
    let slow = HookedContainer(
      World.container(.type1, memory, FaultPlan(), SimulatedDeviceLog(name: "none")).0, hooks)
    let first = try tracker.addContainer(slow, addressSpace: .remapped)
    let quick = World.container(.type1, memory, FaultPlan(), SimulatedDeviceLog(name: "none")).0
    let other = try tracker.addContainer(Renamed(quick, "quick"), addressSpace: .remapped)
    second.withLock { $0 = other }
    for id in [first, other] {
      try tracker.iommuMap(id, World.iova(0), to: GPA(0), permissions: .readWrite)
    }
    try tracker.iommuUnmap(first, World.iova(0))
    #expect(isDone.withLock { $0 })
    #expect(tracker.mappings(of: other) == [])
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == tracker.stateDigest())
  }
}
