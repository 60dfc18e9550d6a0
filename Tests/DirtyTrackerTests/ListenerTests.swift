import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Simulation
import Testing

@Suite struct ListenerTests {
  @Test func `a commit removes before it adds, in whatever order it was told`() throws {
    let world = try World(.type1, pageCount: 16, space: .identity)
    let old = world.log.regions[0]
    try world.tracker.begin()
    try world.tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 8), isReadOnly: true))
    try world.tracker.regionAdded(RAMRegion(name: "more", gpa: World.gpa(8, 8)))
    world.tracker.regionUnchanged(old)
    try world.tracker.regionRemoved(old)
    #expect(world.log.regions == [old])
    try world.tracker.commit()
    #expect(world.log.regions.map(\.name) == ["ram", "more"])
    let mappings = world.tracker.mappings(of: world.id)
    #expect(mappings.map(\.iova) == [World.iova(0, 8), World.iova(8, 8)])
    #expect(mappings.map(\.isWritable) == [false, true])
  }

  @Test func `RAM that a container refuses stays in the log, for vCPUs write it`() throws {
    let world = try World(.type1, space: .identity, startsDirty: false)
    world.faults.reset([.init(.map, ordinal: 1, errno: ContainerErrno.enomem)])
    #expect(throws: TrackerError.self) {
      try world.tracker.regionAdded(RAMRegion(name: "more", gpa: World.gpa(12, 4)))
    }
    #expect(throws: TrackerError.self) {
      try world.tracker.regionAdded(RAMRegion(name: "more", gpa: World.gpa(20, 4)))
    }
    #expect(world.log.regions.count == 2)
    #expect(world.tracker.mappings(of: world.id).count == 1)
    world.tracker.vcpuWrote(World.gpa(21))
    #expect(world.dirty.contains(21))
    try world.tracker.ramPopulated(World.gpa(20, 4))
    #expect(world.tracker.mappings(of: world.id).count == 2)
  }

  @Test(arguments: ContainerKind.allCases)
  func `a switch of the address space keeps the dirt of the old one`(kind: ContainerKind) throws {
    let world = try World(kind, space: .identity)
    world.start()
    world.harvest()
    world.write(5)
    try world.tracker.switchAddressSpace(world.id, to: .remapped)
    #expect(world.tracker.mappings(of: world.id).isEmpty)
    #expect(world.write(5) == nil)
    world.map(5, to: 7)
    #expect(world.write(5) == 7)
    try world.tracker.switchAddressSpace(world.id, to: .identity)
    #expect(world.write(6) == 6)
    #expect(world.finish().isEmpty)
  }

  @Test func `a region added while tracking runs is dirty, and tracked`() throws {
    let world = try World(.type1DeviceLog, pageCount: 16, space: .identity)
    world.start()
    world.harvest()
    try world.tracker.regionRemoved(world.log.regions[0])
    #expect(world.write(3) == nil)
    try world.tracker.regionAdded(RAMRegion(name: "other", gpa: World.gpa(0, 16)))
    #expect(world.write(3) == 3)
    #expect(world.dirty.count == 16)
    #expect(world.finish().isEmpty)
  }

  @Test func `what a container can not ask for in one piece is named before a migration`() throws {
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log)
    let container = SimulatedType1(
      memory: GenerationMemory(pageCount: 1 << 20), queryBitmapByteCountMax: 8)
    _ = container.attachMediatedDevice("mdev")
    let id = try tracker.addContainer(container, addressSpace: .remapped)
    try tracker.iommuMap(id, World.iova(0, 64), to: GPA(0), permissions: .readWrite)
    #expect(tracker.migrationBlockers.isEmpty)
    try tracker.iommuMap(id, World.iova(64, 65), to: GPA(0), permissions: .readWrite)
    #expect(tracker.migrationBlockers.count == 1)
    // RAM that the tracker itself maps is mapped in pieces that can be asked for.
    try tracker.switchAddressSpace(id, to: .identity)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 200)))
    #expect(tracker.mappings(of: id).count == 4)
    #expect(tracker.migrationBlockers.isEmpty)
  }

  @Test func `identity containers ignore what a vIOMMU invalidates`() throws {
    let world = try World(.type1, space: .identity)
    #expect(world.unmap(.wholeSpace))
    #expect(world.tracker.mappings(of: world.id).count == 1)
    #expect(!world.map(3, to: 3))
  }

  @Test func `a container owned by the VMM is told, and its bitmap is used`() throws {
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log)
    let faults = FaultPlan()
    let container = SimulatedType1(memory: GenerationMemory(pageCount: 16), faults: faults)
    _ = container.attachMediatedDevice("mdev")
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
    let id = try tracker.addContainer(container, ownership: .vmm, addressSpace: .remapped)
    let reader = try log.addConsumer("reader", startsDirty: false)
    try tracker.iommuMap(id, World.iova(0, 4), to: GPA(8 << 12), permissions: .readWrite)
    try tracker.iommuMap(id, World.iova(4, 2), to: GPA(2 << 12), permissions: .readWrite)
    _ = tracker.startTracking()
    let calls = faults.callCount
    var dirty = try QueryBitmap(byteCountMax: 64)
    try dirty.reset(window: World.iova(0, 4), pageSize: .fourKiB)
    dirty.insert(World.iova(1))
    try tracker.iommuUnmapped(id, World.iova(0, 4), dirty: dirty)
    #expect(log.peek(for: reader, runCountMax: 9) == [World.gpa(9)])
    try tracker.iommuUnmapped(id, World.iova(0, 100))
    #expect(log.dirtyPageCount(for: reader) == 3)
    #expect(tracker.mappings(of: id).isEmpty)
    #expect(faults.callCount == calls)
  }

  @Test func `a late report of a device is credited to what was mapped when it wrote`() throws {
    let world = try World(.type1, startsDirty: false)
    world.map(1, to: 4)
    let before = world.tracker.generation(of: world.id)
    world.unmap(1)
    world.tracker.deviceWrote(world.id, World.iova(1))
    #expect(world.harvest() == [4])
    world.map(1, to: 6)
    world.tracker.deviceWrote(world.id, World.iova(1), since: before)
    #expect(world.harvest() == [4, 6])
    world.tracker.deviceWrote(world.id, World.iova(9))
    #expect(world.dirty.isEmpty)
  }

  @Test func `pages pinned in every round are sent once, at the end`() throws {
    let world = try World(.type1Pinned)
    world.map(0, 4, to: 4)
    world.start()
    world.harvest()
    world.write(1)
    for _ in 0..<3 {
      world.sync()
      #expect(world.harvest().isEmpty)
      #expect(world.tracker.heldBackPageCount == 1)
    }
    world.sync(isFinal: true)
    #expect(world.harvest() == [5])
  }

  @Test func `a tracker that stops leaves the held-back pages of another one on its log alone`()
    throws
  {
    // Two trackers, whose only containers have the same number.
    let world = try World(.type1Pinned)
    let other = DirtyTracker(log: world.log, policy: TrackerPolicy())
    let container = SimulatedType1(memory: world.memory, faults: world.faults)
    let port = container.attachMediatedDevice("other")
    let id = try other.addContainer(container, addressSpace: .remapped)
    #expect(id == world.id)
    world.map(0, 4, to: 4)
    try other.iommuMap(id, World.iova(0, 4), to: GPA(8 << 12), permissions: .readWrite)
    world.start()
    _ = other.startTracking()
    world.harvest()
    world.write(1)
    _ = port.touch(IOVA(2 << 12))
    for _ in 0..<2 {
      world.sync()
      _ = other.sync(isFinal: false)
    }
    #expect(world.harvest().isEmpty && world.log.heldBackPageCount == 2)
    _ = world.tracker.stopTracking()
    // The log still has a reader, so what this tracker's container maps counts as written for it.
    #expect(world.harvest() == [4, 5, 6, 7] && world.log.heldBackPageCount == 1)
    _ = other.sync(isFinal: true)
    #expect(world.harvest() == [10])
  }

  @Test func `adjacent mappings are asked for in one call`() throws {
    let world = try World(.iommufd)
    for page in 0..<8 as Range<UInt64> { world.map(page, to: 15 - page) }
    world.start()
    world.sync()
    #expect(world.reports.last?.backendCallCount == 1)
  }

  @Test func `a device attached while tracking runs is tracked, and all it could reach is dirty`()
    throws
  {
    let world = try World(.type1Pinned)
    let container = try #require(world.container as? SimulatedType1)
    world.map(0, 4, to: 4)
    world.start()
    world.harvest()
    let port = container.attachDevice("nic")
    #expect(port.touch(IOVA(0)) != nil)
    try world.tracker.attachmentChanged(world.id)
    #expect(world.dirty == [4, 5, 6, 7])
    #expect(world.tracker.containers[0].scopes == ["everything mapped"])
    world.harvest()
    #expect(port.touch(IOVA(0x1000)) != nil)
    #expect(world.finish().isEmpty)
  }

  @Test func `a source of vCPU dirt that fails makes every page dirty`() throws {
    for failing in [FailingCPU.Call.start, .collect] {
      let log = GuestDirtyLog()
      let tracker = DirtyTracker(log: log, cpu: FailingCPU(failing))
      try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
      let reader = try log.addConsumer("reader", startsDirty: false)
      _ = tracker.startTracking()
      let report = tracker.sync(isFinal: false)
      #expect(log.dirtyPageCount(for: reader) == 16)
      #expect(report.vcpuDirtyPages == 16)
      #expect(report.notes.count == 1)
    }
  }

  @Test func `containers are named once, numbered, and gone when removed`() throws {
    let world = try World(.type1DeviceLog)
    #expect(throws: TrackerError.nameTaken("type1")) {
      try world.tracker.addContainer(world.container, addressSpace: .remapped)
    }
    world.map(0, 2, to: 2)
    world.start()
    world.harvest()
    world.write(1)
    try world.tracker.removeContainer(world.id)
    #expect(world.dirty == [3])
    #expect(throws: TrackerError.unknownContainer(world.id)) {
      try world.tracker.iommuUnmap(world.id, .wholeSpace)
    }
    #expect(world.tracker.containers.isEmpty)
  }
}

private final class FailingCPU: CPUDirtySource {
  enum Call: Sendable {
    case start
    case collect
  }

  let name = "a source that fails"
  private let failing: Call

  init(_ failing: Call) { self.failing = failing }

  func start() throws(CPUDirtyError) { try fail(.start) }
  func stop() {}
  func collect(into log: GuestDirtyLog) throws(CPUDirtyError) -> UInt64 {
    try fail(.collect)
    return 0
  }

  private func fail(_ call: Call) throws(CPUDirtyError) {
    if call == failing { throw CPUDirtyError(object: name, operation: "it", errno: 5, detail: "") }
  }
}
