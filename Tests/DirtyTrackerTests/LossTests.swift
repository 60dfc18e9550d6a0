import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import Testing

/// Ways in which pages were lost outside of what the models did: each prevented.
@Suite struct LossTests {
  /// A tracker over two regions of 8 pages, tracking, with a reader.
  private struct Bench {
    let memory = GenerationMemory(pageCount: 32)
    let faults = FaultPlan()
    let log = GuestDirtyLog()
    let tracker: DirtyTracker
    let reader: ConsumerID

    init(policy: TrackerPolicy = TrackerPolicy()) throws {
      tracker = DirtyTracker(log: log, policy: policy)
      try tracker.regionAdded(RAMRegion(name: "low", gpa: World.gpa(0, 8)))
      try tracker.regionAdded(RAMRegion(name: "high", gpa: World.gpa(16, 8)))
      reader = try tracker.log.addConsumer("reader", startsDirty: false)
    }

    var dirty: Set<UInt64> { log.peek(for: reader, runCountMax: Int.max).pages }
  }

  @Test(arguments: [false, true])
  func `what a container wrote that could not be added is dirty, or the container stays tracked`(
    unmapFailsToo: Bool
  ) throws {
    let bench = try Bench()
    let type1 = SimulatedType1(memory: bench.memory, faults: bench.faults)
    let port = type1.attachMediatedDevice("mdev")
    let container = HookedContainer(type1)
    container.beforeMap { request in
      if request.gpaFirst == GPA(16 << 12) { _ = port.touch(IOVA(5 << 12)) }
    }
    _ = bench.tracker.startTracking()
    var plan = [FaultPlan.Fault(.map, ordinal: 2, errno: ContainerErrno.enomem)]
    if unmapFailsToo {
      plan += [ContainerError.Operation.unmap, .unmapWithDirty].map {
        .init($0, ordinal: 1, errno: ContainerErrno.eio, isLasting: true)
      }
    }
    bench.faults.reset(plan)
    var failure: TrackerError?
    do throws(TrackerError) {
      _ = try bench.tracker.addContainer(container, addressSpace: .identity)
    } catch {
      failure = error
    }
    #expect(bench.dirty.contains(5))
    guard unmapFailsToo else {
      #expect(bench.tracker.containers.isEmpty && type1.mappingCount == 0)
      return
    }
    guard case .leftMapped(let id, _, _)? = failure else {
      Issue.record("\(failure as Any)")
      return
    }
    // It can still write, and is still seen.
    bench.faults.reset()
    _ = bench.tracker.log.harvest(for: bench.reader, pageCountMax: .max, runCountMax: .max)
    #expect(port.touch(IOVA(6 << 12)) == GPA(6 << 12))
    _ = bench.tracker.sync(isFinal: true)
    #expect(bench.dirty.contains(6))
    try bench.tracker.removeContainer(id)
    #expect(type1.mappingCount == 0)
  }

  @Test func `a cut under trustGuest marks what stays mapped`() throws {
    let bench = try Bench(policy: TrackerPolicy(twoStepUnmap: .trustGuest))
    let ioas = SimulatedIOMMUFD(memory: bench.memory, faults: bench.faults)
    let port = ioas.attachDevice("nic", to: ioas.allocateHWPT("hwpt"))
    let container = HookedContainer(ioas)
    let id = try bench.tracker.addContainer(container, addressSpace: .remapped)
    try bench.tracker.iommuMap(id, World.iova(100, 4), to: GPA(0), permissions: .readWrite)
    _ = bench.tracker.startTracking()
    container.beforeUnmap { _ in _ = port.touch(IOVA(100 << 12)) }
    try bench.tracker.iommuUnmap(id, World.iova(103))
    #expect(bench.dirty.isSuperset(of: [0, 1, 2]))
  }

  @Test func `discarding one page never trusts a guest that asked for nothing`() throws {
    let bench = try Bench(policy: TrackerPolicy(twoStepUnmap: .trustGuest))
    let ioas = SimulatedIOMMUFD(memory: bench.memory, faults: bench.faults)
    let port = ioas.attachDevice("nic", to: ioas.allocateHWPT("hwpt"))
    let container = HookedContainer(ioas)
    _ = try bench.tracker.addContainer(container, addressSpace: .identity)
    _ = bench.tracker.startTracking()
    container.beforeUnmap { _ in _ = port.touch(IOVA(2 << 12)) }
    try bench.tracker.ramDiscarded(World.gpa(4))
    #expect(bench.dirty.contains(2))
  }

  @Test(arguments: [false, true])
  func `what a VMM tells late is dirty, and what it tells ahead is exact`(isAhead: Bool) throws {
    let bench = try Bench()
    let type1 = SimulatedType1(memory: bench.memory, faults: bench.faults)
    let port = type1.attachMediatedDevice("mdev")
    let id = try bench.tracker.addContainer(
      type1, ownership: .vmm, addressSpace: .remapped)
    _ = bench.tracker.startTracking()
    let request = MapRequest(
      iova: World.iova(8, 4), gpaFirst: GPA(0), hvaFirst: nil, permissions: .readWrite)
    func tell() throws {
      try bench.tracker.iommuMap(
        id, request.iova, to: GPA(0), permissions: .readWrite, isAhead: isAhead)
    }
    if isAhead { try tell() }
    try type1.map(request)
    #expect(port.touch(IOVA(9 << 12)) == GPA(1 << 12))
    // Asked for before the table knew: the bit is gone from the container.
    _ = bench.tracker.sync(isFinal: false)
    if !isAhead { try tell() }
    _ = bench.tracker.sync(isFinal: true)
    #expect(isAhead ? bench.dirty == [1] : bench.dirty == [0, 1, 2, 3])
  }

  @Test func `a tracker counts what its own containers hold back, not those of its neighbour`()
    throws
  {
    let log = GuestDirtyLog()
    func tracker(_ first: UInt64, _ count: UInt64) throws -> DirtyTracker {
      let tracker = DirtyTracker(log: log)
      try tracker.regionAdded(RAMRegion(name: "ram\(first)", gpa: World.gpa(first * 8, 8)))
      let type1 = SimulatedType1(memory: GenerationMemory(pageCount: 32), faults: FaultPlan())
      let port = type1.attachMediatedDevice("mdev")
      let id = try tracker.addContainer(type1, addressSpace: .remapped)
      try tracker.iommuMap(
        id, World.iova(0, count), to: GPA(first * 8 << 12), permissions: .readWrite)
      _ = tracker.startTracking()
      for page in 0..<count { _ = port.touch(IOVA(page << 12)) }
      _ = tracker.sync(isFinal: false)
      return tracker
    }
    let trackers = try (tracker(0, 3), tracker(1, 2))
    #expect(trackers.0.heldBackPageCount == 3 && trackers.1.heldBackPageCount == 2)
    #expect(log.heldBackPageCount == 5)
    _ = trackers.0.sync(isFinal: true)
    #expect(trackers.0.heldBackPageCount == 0 && trackers.1.heldBackPageCount == 2)
  }

  @Test func `a stop leaves what was held back to the readers that stay`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    world.map(0, 4, to: 4)
    world.start()
    world.write(1)
    world.sync()
    #expect(world.dirty.isEmpty)
    world.write(2)
    let report = world.tracker.stopTracking()
    #expect(world.dirty.isSuperset(of: [5, 6]))
    #expect(report.notes.contains { $0.contains("has readers") })
  }

  @Test func `a VMM that has only the memory listener gets pinned pages by a sync that is final`()
    throws
  {
    let world = try World(.type1Pinned, startsDirty: false)
    world.map(0, 4, to: 4)
    _ = world.tracker.logGlobalStart()
    world.write(1)
    _ = world.tracker.logSync(nil)
    #expect(world.dirty.isEmpty)
    _ = world.tracker.logSync(nil, isFinal: true)
    #expect(world.dirty == [5])
  }

  @Test func `a log whose stop failed is stopped again before it is believed to have new ranges`()
    throws
  {
    let world = try World(.type1DeviceLog, startsDirty: false, ignoresSecondStart: true)
    world.map(0, to: 0)
    world.start()
    world.faults.reset([.init(.stopLog, ordinal: 1, errno: ContainerErrno.eio)])
    _ = world.tracker.stopTracking()
    world.unmap(0)
    world.map(4, to: 7)
    world.start()
    #expect(world.deviceLog?.loggedRanges == [World.iova(4)])
    world.harvest()
    world.write(4)
    world.sync()
    #expect(world.dirty == [7])
  }

  @Test func `a log that did not start is tried again by later syncs`() throws {
    let world = try World(.type1DeviceLog, startsDirty: false)
    world.map(0, 4, to: 4)
    world.faults.reset([.init(.startLog, ordinal: 1, errno: ContainerErrno.enomem)])
    world.start()
    #expect(world.tracker.containers[0].scopes.contains { $0.contains("degraded") })
    world.sync()
    #expect(!world.tracker.containers[0].scopes.contains { $0.contains("degraded") })
    world.harvest()
    world.write(1)
    world.sync()
    #expect(world.harvest() == [5])
  }

  @Test func `a range that a device log never answers for counts as written, the others are exact`()
    throws
  {
    let world = try World(
      .type1DeviceLog, policy: TrackerPolicy(rearmPageCount: 1000), startsDirty: false)
    world.map(0, to: 0)
    world.map(1 << 24, to: 8)
    world.start()
    for _ in 0..<2 {
      // The first query of each sync is for the low range, while it is asked for.
      world.faults.reset([.init(.query, ordinal: 1, errno: ContainerErrno.eio)])
      world.sync()
      world.harvest()
    }
    world.faults.reset()
    // Once more everything is dirty: the log is restarted without the range.
    for _ in 0..<2 {
      world.sync()
      world.harvest()
    }
    world.sync()
    #expect(world.harvest().isEmpty && world.tracker.heldBackPageCount == 1)
    world.write(1 << 24)
    world.sync()
    #expect(world.harvest() == [8])
    world.write(0)
    #expect(world.finish().subtracting([0]).isEmpty && world.copied[0] != nil)
  }

  @Test func `a removal of a part of a region is refused whole`() throws {
    let world = try World(.type1, space: .identity)
    #expect(throws: TrackerError.self) {
      try world.tracker.regionRemoved(RAMRegion(name: "ram0", gpa: World.gpa(0, 4)))
    }
    #expect(world.log.regions.count == 1)
    #expect(world.tracker.mappings(of: world.id).count == 1)
  }
}
