import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

@Suite struct EdgeTests {
  @Test func `the last page of the IOVA space is mapped, tracked and unmapped`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    let page = UInt64.max >> 12
    let top = AddressRange(first: IOVA(page << 12), last: IOVA(UInt64.max))
    try world.tracker.iommuMap(world.id, top, to: GPA(0x3000), permissions: .readWrite)
    world.start()
    #expect(world.write(page) == 3)
    world.sync()
    #expect(world.tracker.heldBackPageCount == 1)
    #expect(world.unmap(.wholeSpace))
    #expect(world.dirty == [3])
    #expect(world.unmap(.wholeSpace))
  }

  @Test func `a walk of many batches finds what was written, whichever way it goes`() throws {
    let seed = TestSeed.seed(default: 77)
    let again = "\(TestSeed.reproduce(seed, filter: "EdgeTests"))"
    var random = SeededGenerator(seed: seed)
    let world = try World(.iommufd, pageCount: 4096, startsDirty: false)
    // Neighbours in IOVA are none in GPA, but for a stretch in the middle.
    let count: UInt64 = 20_000
    func gpa(_ page: UInt64) -> UInt64 {
      (page / 1000 == 9 ? page : page &* 37) % 4096
    }
    for page in 0..<count { world.map(page, to: gpa(page), page % 7 == 3 ? .read : .readWrite) }
    world.start()
    for round in 0..<3 {
      var wanted: Set<UInt64> = []
      for _ in 0..<[400, 1, 6000][round] {
        let page = random.below(count)
        if world.write(page) != nil { wanted.insert(gpa(page)) }
      }
      world.sync()
      #expect(world.dirty == wanted, "\(again)")
      world.harvest()
    }
  }

  @Test func `two steps are asked and unmapped where the guest is trusted`() throws {
    let policy = TrackerPolicy(twoStepUnmap: .trustGuest)
    let world = try World(.iommufd, policy: policy, startsDirty: false)
    world.map(0, 4, to: 8)
    world.start()
    world.write(2)
    world.unmap(0, 4)
    #expect(world.dirty == [10])
    #expect(world.faults.count(of: .query) == 1)
  }

  @Test func `two steps mark the whole mapping where a write may land in between`() throws {
    let world = try World(.iommufd, startsDirty: false)
    world.map(0, 4, to: 8)
    world.map(4, to: 2, .read)
    world.start()
    world.write(2)
    world.unmap(0, 5)
    #expect(world.dirty == [8, 9, 10, 11])
    #expect(world.faults.count(of: .query) == 0)
    #expect(world.log.pagesBySource[.conservative(world.id)] == 4)
  }

  @Test func `an unmap the backend refuses stays mapped, and its pages are dirty`() throws {
    for kind in [ContainerKind.type1Pinned, .iommufd, .type1DeviceLog] {
      let world = try World(kind, startsDirty: false)
      world.map(0, 2, to: 8)
      world.start()
      world.faults.reset(
        [.unmap, .unmapWithDirty].map {
          .init($0, ordinal: 1, errno: ContainerErrno.enoent, isLasting: true)
        })
      #expect(!world.unmap(0, 2))
      #expect(world.tracker.mappings(of: world.id).count == 1)
      #expect(world.dirty == [8, 9])
      world.harvest()
      #expect(world.write(1) == 9)
      world.faults.reset()
      #expect(world.unmap(0, 2))
      #expect(world.dirty.contains(9))
    }
  }

  @Test func `a part cut out of a mapping the backend keeps whole leaves the rest mapped`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    world.map(0, 6, to: 8)
    world.start()
    for page in 0..<6 as Range<UInt64> where page != 4 { world.write(page) }
    #expect(world.unmap(2, 2))
    #expect(world.dirty == [8, 9, 10, 11, 13])
    #expect(
      world.tracker.mappings(of: world.id).map(\.iova) == [World.iova(0, 2), World.iova(4, 2)])
    #expect((world.container as? SimulatedType1)?.mappingCount == 2)
    #expect(world.write(4) == 12)
    #expect(world.write(3) == nil)
  }

  @Test func `the kept part that can not be mapped again is named, its dirt in the log`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    world.map(0, 4, to: 8)
    world.start()
    world.write(3)
    world.faults.reset([.init(.map, ordinal: 1, errno: ContainerErrno.enomem)])
    var failure: TrackerError?
    do throws(TrackerError) {
      try world.tracker.iommuUnmap(world.id, World.iova(0))
    } catch {
      failure = error
    }
    guard case .keptPartLost(World.iova(1, 3), _)? = failure else {
      Issue.record("\(failure as Any)")
      return
    }
    #expect(world.dirty == [11])
    #expect(world.tracker.mappings(of: world.id).isEmpty)
  }

  @Test func `an unmap that fails on its way leaves mapped what it was not to remove`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    // So far apart that each is a call of its own.
    let far: UInt64 = 1 << 24
    world.map(0, 4, to: 0)
    world.map(far, 4, to: 8)
    world.start()
    world.write(1)
    world.write(3)
    world.faults.reset([
      .init(.unmapWithDirty, ordinal: 2, errno: ContainerErrno.eio),
      .init(.unmap, ordinal: 1, errno: ContainerErrno.eio),
    ])
    #expect(!world.unmap(2, far))
    #expect(
      world.tracker.mappings(of: world.id).map(\.iova) == [World.iova(0, 2), World.iova(far, 4)])
    #expect((world.container as? SimulatedType1)?.mappingCount == 2)
    #expect(world.dirty.isSuperset(of: [1, 3]))
    #expect(world.write(0) == 0)
    #expect(world.write(2) == nil)
    #expect(world.finish().isEmpty)
  }

  @Test func `an unmap in chunks from the middle of a mapping needs no room in a full table`()
    throws
  {
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 1024)))
    let container = SplittingContainer()
    let id = try tracker.addContainer(container, addressSpace: .remapped)
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    try tracker.iommuMap(id, World.iova(0, 1024), to: GPA(0), permissions: .readWrite)
    _ = tracker.startTracking()
    try tracker.iommuUnmap(id, World.iova(100, 924))
    #expect(tracker.mappings(of: id).map(\.iova) == [World.iova(0, 100)])
    #expect(log.peek(for: reader, runCountMax: 9) == [World.gpa(100, 924)])
  }

  @Test func `a device log is started anew once too much is mapped outside its ranges`() throws {
    let world = try World(
      .type1DeviceLog, policy: TrackerPolicy(rearmPageCount: 2), startsDirty: false)
    world.map(0, to: 0)
    world.start()
    world.map(10, 3, to: 4)
    world.write(10)
    world.sync()
    #expect(world.deviceLog?.loggedRanges == [World.iova(0), World.iova(10, 3)])
    // Nobody watched in between, so everything mapped is dirty, once.
    #expect(world.harvest() == [0, 4, 5, 6])
    world.sync()
    #expect(world.harvest().isEmpty)
    world.write(11)
    world.sync()
    #expect(world.harvest() == [5])
    #expect(world.finish().isEmpty)
  }
}
