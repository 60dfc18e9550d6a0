import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Simulation
import Testing

/// The ways in which VMMs lose dirt behind a vIOMMU, H1 to H11, each prevented.
@Suite struct HazardTests {
  /// A world whose device log watches one mapping of IOVA pages 0 to 3 to GPA pages 8 to 11.
  private func world(_ kind: ContainerKind = .type1DeviceLog) throws -> World {
    let world = try World(kind, startsDirty: false)
    world.map(0, 4, to: 8)
    world.start()
    return world
  }

  @Test func `H1 a GPA is not taken for an offset into RAM when RAM has a hole`() throws {
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log)
    let memory = GenerationMemory(pageCount: 64)
    let container = SimulatedType1(memory: memory)
    let port = container.attachMediatedDevice("mdev")
    for (name, page) in [("low", 0), ("high", 48)] as [(String, UInt64)] {
      try tracker.regionAdded(RAMRegion(name: name, gpa: World.gpa(page, 8)))
    }
    let id = try tracker.addContainer(container, addressSpace: .remapped)
    let reader = try log.addConsumer("reader", startsDirty: false)
    try tracker.iommuMap(id, World.iova(1), to: GPA(50 << 12), permissions: .readWrite)
    _ = tracker.startTracking()
    #expect(port.touch(IOVA(1 << 12)) == GPA(50 << 12))
    try tracker.iommuUnmap(id, World.iova(1))
    #expect(log.peek(for: reader, runCountMax: 9) == [World.gpa(50)])
  }

  @Test func `H2 an unmap is credited by the table and not by a page table entry already cleared`()
    throws
  {
    let world = try world()
    world.write(2)
    // The event has no GPA at all: there is none it could be wrong about.
    world.unmap(0, 4)
    #expect(world.dirty == [10])
  }

  @Test func `H3 the remap of a live IOVA credits the old page and not the new one`() throws {
    let world = try world()
    world.write(1)
    world.map(1, to: 3)
    #expect(world.dirty == [9])
    #expect(world.tracker.lookup(world.id, IOVA(1 << 12))?.gpaFirst == GPA(3 << 12))
    world.write(1)
    world.sync()
    #expect(world.dirty.contains(3))
  }

  @Test func `H4 each piece of an unmap in pieces is credited with its own page`() throws {
    for kind in [ContainerKind.type1DeviceLog, .type1Pinned] {
      let world = try World(kind, startsDirty: false)
      world.map(0, 4, to: 8)
      world.start()
      for page in 0..<4 as Range<UInt64> { world.write(page) }
      var dirty: Set<UInt64> = []
      for page in 0..<4 as Range<UInt64> {
        #expect(world.unmap(page))
        dirty.formUnion(world.harvest())
        #expect(world.tracker.lookup(world.id, IOVA(page << 12)) == nil)
      }
      #expect(dirty == [8, 9, 10, 11])
      #expect(world.different.isEmpty)
    }
  }

  @Test func `H5 GPA 0 is not dirty because unmap events carry a zero`() throws {
    let world = try world()
    world.unmap(.wholeSpace)
    #expect(!world.dirty.contains(0))
    #expect(world.dirty.isEmpty)
  }

  @Test func `the hazards notice a page that was taken from an unmap event`() throws {
    let world = try world()
    world.write(2)
    world.unmap(.wholeSpace)
    #expect(world.dirty == [10])
    // A VMM that believes the zero of the event.
    world.tracker.vcpuWrote(World.gpa(0))
    #expect(world.dirty == [0, 10])
  }

  @Test func `H6 a replay of live translations maps nothing twice and forgets no dirt`() throws {
    let world = try world()
    world.write(3)
    let calls = world.faults.callCount
    try world.tracker.iommuReplay(world.id, world.tracker.mappings(of: world.id))
    try world.tracker.iommuMap(
      world.id, World.iova(1, 2), to: GPA(9 << 12), permissions: .readWrite)
    #expect(world.faults.callCount == calls)
    world.sync()
    #expect(world.dirty == [11])
  }

  @Test func `H7 a translation the replay leaves out stays until it is unmapped`() throws {
    let world = try world()
    world.map(8, to: 1)
    let mappings = world.tracker.mappings(of: world.id)
    // The guest has cleared the entry at page 8; its invalidation is still to come.
    try world.tracker.iommuReplay(world.id, mappings.filter { $0.iova.first == IOVA(0) })
    world.write(8)
    world.unmap(8)
    #expect(world.dirty == [1])
    #expect((world.container as? SimulatedType1)?.mappingCount == 1)
  }

  @Test func `H8 an unmap that begins before the mapping is credited from the mapping's start`()
    throws
  {
    let world = try World(.type1DeviceLog, startsDirty: false)
    world.map(4, 4, to: 8)
    world.start()
    world.write(5)
    world.unmap(2, 20)
    #expect(world.dirty == [9])
  }

  @Test func `H9 discarding RAM keeps the dirt of what stays populated`() throws {
    let world = try World(.type1DeviceLog, space: .identity, startsDirty: false)
    world.start()
    for page in [3, 4, 5] as [UInt64] { world.write(page) }
    try world.tracker.ramDiscarded(World.gpa(4))
    #expect(world.dirty.isSuperset(of: [3, 4, 5]))
    #expect(world.write(4) == nil)
    world.harvest()
    world.write(3)
    try world.tracker.ramPopulated(World.gpa(4))
    #expect(world.write(4) == 4)
    #expect(world.finish().isEmpty)
  }

  @Test func `H10 an unaligned section end reaches the page it ends in`() throws {
    let world = try World(.type1DeviceLog, space: .identity, startsDirty: false)
    world.start()
    world.write(2)
    world.write(3)
    _ = world.tracker.logSync(GPARange(first: GPA(0x2800), last: GPA(0x30ff)))
    #expect(world.dirty == [2, 3])
  }

  @Test(arguments: [TrackerPolicy.PinnedPages.everyRound, .stopAndCopy])
  func `H11 a container without a tracker reports everything it maps writable`(
    pinned: TrackerPolicy.PinnedPages
  ) throws {
    let policy = TrackerPolicy(pinnedPages: pinned)
    let world = try World(.iommufdNothing, policy: policy, startsDirty: false)
    world.map(0, 4, to: 8)
    world.map(6, to: 2, .read)
    world.start()
    world.sync()
    #expect(world.dirty.union(pinned == .everyRound ? [] : [8, 9, 10, 11]) == [8, 9, 10, 11])
    #expect(world.tracker.heldBackPageCount == (pinned == .everyRound ? 0 : 4))
    world.sync(isFinal: true)
    #expect(world.dirty == [8, 9, 10, 11])
    #expect(world.tracker.heldBackPageCount == 0)
  }

  @Test func `H11 a sync of what was never started reports everything, and says so`() throws {
    let world = try World(.type1DeviceLog, startsDirty: false)
    world.map(0, 2, to: 4)
    world.sync()
    #expect(world.dirty == [4, 5])
    #expect(world.notes.count == 1)
  }
}
