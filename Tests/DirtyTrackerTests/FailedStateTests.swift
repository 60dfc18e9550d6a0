import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOVAMapping
import Simulation
import Testing

/// After an operation that failed, table, backend and log are what the error says they are.
@Suite struct FailedStateTests {
  private func limited(_ count: Int) throws -> (DirtyTracker, SimulatedType1, ContainerID) {
    let tracker = DirtyTracker(log: GuestDirtyLog())
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 64)))
    let type1 = SimulatedType1(memory: GenerationMemory(pageCount: 64), dmaEntryLimit: count)
    _ = type1.attachDevice("nic")
    let id = try tracker.addContainer(type1, addressSpace: .remapped)
    try tracker.iommuMap(id, World.iova(0, 8), to: GPA(0), permissions: .readWrite)
    try tracker.iommuMap(id, World.iova(100, 8), to: GPA(8 << 12), permissions: .readWrite)
    return (tracker, type1, id)
  }

  @Test func `a cut that a full table has no room for changes neither table nor backend`() throws {
    let (tracker, type1, id) = try limited(2)
    let before = tracker.mappings(of: id)
    #expect(throws: TrackerError.self) { try tracker.iommuUnmap(id, World.iova(103)) }
    #expect(throws: TrackerError.self) {
      try tracker.iommuMap(id, World.iova(103), to: GPA(0), permissions: .readWrite)
    }
    #expect(tracker.mappings(of: id) == before)
    #expect(type1.mappingCount == 2)
  }

  @Test func `a full table takes what is mapped already, and a remap that needs no more room`()
    throws
  {
    let (tracker, type1, id) = try limited(2)
    try tracker.iommuMap(id, World.iova(0, 8), to: GPA(0), permissions: .readWrite)
    try tracker.iommuMap(id, World.iova(0, 8), to: GPA(32 << 12), permissions: .readWrite)
    #expect(tracker.lookup(id, IOVA(0))?.gpaFirst == GPA(32 << 12))
    #expect(type1.mappingCount == 2)
    #expect(throws: TrackerError.self) {
      try tracker.iommuMap(id, World.iova(200), to: GPA(0), permissions: .readWrite)
    }
  }

  @Test func `a remap that the backend refuses says that the old mapping is gone`() throws {
    let world = try World(.type1Pinned, startsDirty: false)
    world.map(0, 2, to: 4)
    world.start()
    world.write(1)
    world.faults.reset([.init(.map, ordinal: 1, errno: ContainerErrno.enomem)])
    var failure: TrackerError?
    do throws(TrackerError) {
      try world.tracker.iommuMap(
        world.id, World.iova(0, 2), to: GPA(8 << 12), permissions: .readWrite)
    } catch {
      failure = error
    }
    guard case .remapFailed? = failure else {
      Issue.record("\(failure as Any)")
      return
    }
    #expect(world.tracker.mappings(of: world.id).isEmpty)
    #expect((world.container as? SimulatedType1)?.mappingCount == 0)
    #expect(world.dirty == [5])
  }

  @Test func `a switch of the address space that failed does all of it when it is tried again`()
    throws
  {
    let world = try World(.type1, pageCount: 16, regionCount: 2)
    world.faults.reset([.init(.map, ordinal: 2, errno: ContainerErrno.enomem)])
    #expect(throws: TrackerError.self) {
      try world.tracker.switchAddressSpace(world.id, to: .identity)
    }
    #expect(world.tracker.mappings(of: world.id).isEmpty)
    #expect(world.tracker.containers[0].addressSpace == .remapped)
    try world.tracker.switchAddressSpace(world.id, to: .identity)
    #expect(
      world.tracker.mappings(of: world.id).map(\.iova) == [World.iova(0, 8), World.iova(8, 8)])
  }

  @Test func `RAM whose removal one container refused is mapped in all of them`() throws {
    let world = try World(.type1, space: .identity)
    let faults = FaultPlan()
    let other = SimulatedType1(name: "other", memory: world.memory, faults: faults)
    _ = other.attachDevice("disk")
    _ = try world.tracker.addContainer(other, addressSpace: .identity)
    faults.reset([.init(.unmap, ordinal: 1, errno: ContainerErrno.eio, isLasting: true)])
    #expect(throws: TrackerError.self) {
      try world.tracker.regionRemoved(world.log.regions[0])
    }
    #expect((world.container as? SimulatedType1)?.mappingCount == 1 && other.mappingCount == 1)
    #expect(world.log.regions.count == 1)
  }

  @Test func `other memory at the GPA of RAM that went is mapped again`() throws {
    let world = try World(.type1, pageCount: 16, regionCount: 2)
    world.map(0, to: 9)
    try world.tracker.regionRemoved(world.log.regions[1])
    try world.tracker.regionAdded(RAMRegion(name: "other", gpa: World.gpa(8, 8)))
    let maps = world.faults.count(of: .map)
    world.map(0, to: 9)
    #expect(world.faults.count(of: .map) == maps + 1)
    world.map(0, to: 9)
    #expect(world.faults.count(of: .map) == maps + 1)
  }

  @Test func `a replay goes on after a refused translation, and names it`() throws {
    let world = try World(.type1)
    let mappings = [(0, 0), (1, 1), (2, 2)].map { iova, gpa in
      Mapping(
        iova: World.iova(iova), gpaFirst: GPA(UInt64(gpa) << 12), permissions: .readWrite)
    }
    world.faults.reset([.init(.map, ordinal: 2, errno: ContainerErrno.enomem)])
    var failure: TrackerError?
    do throws(TrackerError) {
      try world.tracker.iommuReplay(world.id, mappings)
    } catch {
      failure = error
    }
    guard case .replayIncomplete(_, [World.iova(1)], 1, _)? = failure else {
      Issue.record("\(failure as Any)")
      return
    }
    #expect(world.tracker.mappings(of: world.id).map(\.iova) == [World.iova(0), World.iova(2)])
  }

  @Test func `a listener called out of turn is refused, and changes nothing`() throws {
    let world = try World(.type1)
    #expect(throws: TrackerError.noTransaction) { try world.tracker.commit() }
    try world.tracker.begin()
    #expect(throws: TrackerError.transactionOpen) { try world.tracker.begin() }
    try world.tracker.commit()
  }

  @Test func `a page given back and taken again is mapped again in a container of larger pages`()
    throws
  {
    let tracker = DirtyTracker(log: GuestDirtyLog())
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 64)))
    let large = PageSizeSet(mask: 0x10000)
    let type1 = SimulatedType1(memory: GenerationMemory(pageCount: 64), pageSizes: large)
    let port = type1.attachDevice("nic")
    _ = try tracker.addContainer(type1, addressSpace: .identity)
    try tracker.ramDiscarded(World.gpa(5))
    #expect(port.touch(IOVA(6 << 12)) == nil)
    try tracker.ramPopulated(World.gpa(5))
    #expect(port.touch(IOVA(6 << 12)) == GPA(6 << 12))
  }

  @Test func `RAM that one container refuses is mapped in the others`() throws {
    let world = try World(.type1, space: .identity)
    let other = SimulatedType1(name: "other", memory: world.memory)
    _ = other.attachDevice("disk")
    _ = try world.tracker.addContainer(other, addressSpace: .identity)
    world.faults.reset([.init(.map, ordinal: 1, errno: ContainerErrno.enomem)])
    #expect(throws: TrackerError.self) {
      try world.tracker.regionAdded(RAMRegion(name: "more", gpa: World.gpa(32, 8)))
    }
    #expect((world.container as? SimulatedType1)?.mappingCount == 1 && other.mappingCount == 2)
  }

  @Test func `RAM that could not be mapped again counts as given back still`() throws {
    let world = try World(.type1, space: .identity)
    try world.tracker.ramDiscarded(World.gpa(4, 2))
    world.faults.reset([.init(.map, ordinal: 1, errno: ContainerErrno.enomem)])
    #expect(throws: TrackerError.self) { try world.tracker.ramPopulated(World.gpa(4, 2)) }
    let other = SimulatedType1(name: "other", memory: world.memory)
    let port = other.attachDevice("disk")
    _ = try world.tracker.addContainer(other, addressSpace: .identity)
    #expect(port.page(behind: IOVA(3 << 12)) == 3 && port.page(behind: IOVA(4 << 12)) == nil)
    try world.tracker.ramPopulated(World.gpa(4, 2))
    #expect(port.page(behind: IOVA(4 << 12)) == 4)
  }

  @Test func `RAM that the guest gave back is dirty, since its content is lost`() throws {
    let world = try World(.iommufd, startsDirty: false)
    world.start()
    try world.tracker.ramDiscarded(World.gpa(4, 2))
    #expect(world.dirty == [4, 5])
  }
}
