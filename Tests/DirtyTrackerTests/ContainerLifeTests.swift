import Addressing
import DMAContainer
@testable import DirtyTracker
import GuestDirtyLog
import IOVAMapping
import Locking
import Simulation
import Testing

/// Containers, devices and logs that come, go and change while tracking runs.
@Suite struct ContainerLifeTests {
  @Test func `what a container wrote before its logs ran is dirty, when it comes late`() throws {
    let memory = GenerationMemory(pageCount: 64)
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log)
    try tracker.regionAdded(RAMRegion(name: "low", gpa: World.gpa(0, 8)))
    try tracker.regionAdded(RAMRegion(name: "high", gpa: World.gpa(16, 8)))
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    _ = tracker.startTracking()
    let ioas = SimulatedIOMMUFD(memory: memory)
    let port = ioas.attachDevice("nic", to: ioas.allocateHWPT("hwpt"))
    let container = HookedContainer(ioas)
    container.beforeMap { request in
      if request.gpaFirst == GPA(16 << 12) { _ = port.touch(IOVA(5 << 12)) }
    }
    _ = try tracker.addContainer(container, addressSpace: .identity)
    #expect(memory.generation(5) > 0)
    #expect(log.peek(for: reader, runCountMax: .max).contains { $0.contains(GPA(5 << 12)) })
  }

  /// A page that was written once, and that the container has forgotten since.
  private func withHeldPage() throws -> World {
    let world = try World(.type1Pinned, startsDirty: false)
    world.map(0, 4, to: 4)
    world.start()
    world.write(1)
    world.ports[0].unpin(World.iova(1))
    world.sync()
    #expect(world.dirty.isEmpty && world.tracker.heldBackPageCount == 1)
    return world
  }

  @Test func `held-back pages of a container that is removed are dirty`() throws {
    let world = try withHeldPage()
    try world.tracker.removeContainer(world.id)
    #expect(world.dirty.contains(5))
  }

  @Test func `held-back pages that are unmapped since are dirty for readers after a stop`() throws {
    let world = try withHeldPage()
    world.unmap(1)
    #expect(!world.dirty.contains(5))
    _ = world.tracker.stopTracking()
    #expect(world.dirty.contains(5))
  }

  @Test func `what a sync of a part held back comes with the final sync`() throws {
    let world = try World(.type1Pinned, space: .identity, startsDirty: false)
    world.start()
    world.write(5)
    world.ports[0].unpin(World.iova(5))
    _ = world.tracker.logSync(World.gpa(0, 8))
    #expect(world.dirty.isEmpty)
    world.sync(isFinal: true)
    #expect(world.dirty.contains(5))
  }

  @Test func `logs of a container that is removed, or of a device that left, stop`() throws {
    let removed = try World(.type1DeviceLog)
    removed.map(0, to: 0)
    removed.start()
    #expect(removed.deviceLog?.loggedRanges == [World.iova(0)])
    try removed.tracker.removeContainer(removed.id)
    #expect(removed.deviceLog?.loggedRanges == [])

    let left = try World(.type1Mixed)
    left.map(0, to: 0)
    left.start()
    #expect(left.deviceLog?.loggedRanges == [World.iova(0)])
    (left.container as? SimulatedType1)?.detach(left.ports[0])
    try left.tracker.attachmentChanged(left.id)
    #expect(left.deviceLog?.loggedRanges == [])
  }

  @Test func `a log that ran and knows less with another device is stopped in the end`() throws {
    let world = try World(.type1Pinned)
    world.map(0, to: 0)
    world.start()
    world.faults.reset()
    _ = (world.container as? SimulatedType1)?.attachDevice("nic")
    try world.tracker.attachmentChanged(world.id)
    #expect(world.tracker.containers[0].scopes == ["everything mapped"])
    _ = world.tracker.stopTracking()
    #expect(world.faults.count(of: .stopLog) == 1)
  }

  @Test func `what is unmapped before its log runs counts as written`() throws {
    let world = try World(.iommufd, startsDirty: false)
    world.map(0, to: 5)
    world.tracker.setTracking(true)
    world.tracker.beginStart(world.id)
    world.write(0)
    world.unmap(0)
    #expect(world.dirty == [5])
  }

  @Test func `what is unmapped while a container that is not tracked is synced counts as written`()
    throws
  {
    let world = try World(.iommufd, startsDirty: false)
    world.map(0, to: 5)
    world.write(0)
    world.tracker.beginSync(world.id, SyncRequest())
    world.unmap(0)
    #expect(world.dirty == [5])
  }

  @Test func `a device log is started with what is writable, however many steps it takes`() throws {
    let world = try World(.type1DeviceLog, rangeCountMax: 8)
    world.map(0, 2, to: 0, .read)
    for page in [4, 8, 12] as [UInt64] { world.map(page, to: page) }
    SteppedSession.start(world) { _ in }
    #expect(world.deviceLog?.loggedRanges == [4, 8, 12].map { World.iova($0) })
  }

  @Test func `a log that cannot be stopped is not believed to have new ranges`() throws {
    let world = try World(.type1DeviceLog, startsDirty: false, ignoresSecondStart: true)
    world.map(0, to: 0)
    world.start()
    world.faults.reset([
      .init(.stopLog, ordinal: 1, errno: ContainerErrno.eio, isLasting: true)
    ])
    _ = world.tracker.stopTracking()
    world.unmap(0)
    world.map(4, to: 7)
    world.start()
    #expect(world.tracker.containers[0].scopes.contains { $0.contains("degraded") })
    world.harvest()
    world.write(4)
    world.sync(isFinal: true)
    #expect(world.dirty.contains(7))
  }

  @Test func `restarts of a log come at ever longer intervals`() throws {
    let world = try World(.type1DeviceLog, policy: TrackerPolicy(rearmPageCount: 0))
    world.map(100, to: 0)
    world.start()
    world.faults.reset()
    for page in 0..<24 as Range<UInt64> {
      // Outside of what is logged, each time.
      world.map(page, to: page % 16)
      world.sync()
    }
    // After 0, 1, 2, 4 and 8 others.
    #expect(world.faults.count(of: .startLog) == 5)
  }

  @Test func `leaving the identity space trusts no guest, since none has asked for it`() throws {
    let memory = GenerationMemory(pageCount: 16)
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log, policy: TrackerPolicy(twoStepUnmap: .trustGuest))
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    let ioas = SimulatedIOMMUFD(memory: memory)
    let port = ioas.attachDevice("nic", to: ioas.allocateHWPT("hwpt"))
    let container = HookedContainer(ioas)
    let id = try tracker.addContainer(container, addressSpace: .identity)
    _ = tracker.startTracking()
    container.beforeUnmap { _ in _ = port.touch(IOVA(2 << 12)) }
    try tracker.switchAddressSpace(id, to: .remapped)
    #expect(log.peek(for: reader, runCountMax: .max).contains { $0.contains(GPA(2 << 12)) })
  }

  @Test func `mappings larger than an unmap can report on are made smaller in the first place`()
    throws
  {
    let container = SmallAnswers()
    let tracker = DirtyTracker(log: GuestDirtyLog())
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 256)))
    let id = try tracker.addContainer(container, addressSpace: .identity)
    #expect(tracker.mappings(of: id).map { $0.iova.pageCount(.fourKiB) } == [64, 64, 64, 64])
  }

  @Test func `what is mapped between two pieces of an unmap stays`() throws {
    let world = try World(.iommufd)
    for page in 0..<5000 as Range<UInt64> { world.map(page * 2, to: page % 16) }
    let tracked = try world.tracker.container(world.id)
    var pieces = UnmapPieces(World.iova(0, 1 << 20))
    var count = 0
    while pieces.from != nil {
      try tracked.operation.withLock { (state: inout ContainerState) throws(TrackerError) in
        if let piece = state.next(&pieces) { try state.unmap(piece) }
      }
      count += 1
      // Another vCPU: behind the place of the unmap, and before it, also what was mapped otherwise.
      if count == 1 {
        for page in [1, 9000, 9001] as [UInt64] { #expect(world.map(page, to: 2)) }
      }
    }
    #expect(count > 1)
    #expect(
      world.tracker.mappings(of: world.id).map(\.iova) == [1, 9000, 9001].map { World.iova($0) })
  }

  @Test func `a late report of the very generation that retired its mapping is of the next one`()
    throws
  {
    let world = try World(.type1Pinned, startsDirty: false)
    world.start()
    world.map(0, to: 3)
    let live = world.tracker.generation(of: world.id)
    world.unmap(0)
    let retired = world.tracker.generation(of: world.id)
    world.map(0, to: 7)
    world.tracker.deviceWrote(world.id, World.iova(0), since: retired)
    #expect(world.dirty == [7])
    world.tracker.deviceWrote(world.id, World.iova(0), since: live)
    #expect(world.dirty == [3, 7])
  }

  @Test func `a late write through a mapping that is forgotten makes every page dirty`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    world.start()
    world.map(0, to: 3)
    let generation = world.tracker.generation(of: world.id)
    world.unmap(0)
    world.tracker.deviceWrote(world.id, World.iova(0), since: generation)
    #expect(world.dirty == [3])
    for _ in 0...Limits.retiredMappingCountMax {
      world.map(1, to: 4)
      world.unmap(1)
    }
    world.harvest()
    world.tracker.deviceWrote(world.id, World.iova(0), since: generation)
    #expect(world.dirty.count == 16)
  }
}
