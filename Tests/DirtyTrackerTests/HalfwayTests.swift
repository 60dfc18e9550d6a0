import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import Testing

/// What is known, and what counts as written, after a call that stopped half way.
@Suite struct HalfwayTests {
  /// One iommufd container behind a vIOMMU, with a hook, tracked.
  private struct Bench {
    let memory = GenerationMemory(pageCount: 16)
    let faults = FaultPlan()
    let log = GuestDirtyLog()
    let tracker: DirtyTracker
    let container: HookedContainer
    let port: SimulatedDevicePort
    let id: ContainerID
    let reader: ConsumerID

    init(isTracked: Bool = true) throws {
      tracker = DirtyTracker(log: log)
      try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
      reader = try tracker.log.addConsumer("reader", startsDirty: false)
      let ioas = SimulatedIOMMUFD(memory: memory, faults: faults)
      port = ioas.attachDevice("nic", to: ioas.allocateHWPT("hwpt"))
      container = HookedContainer(ioas)
      id = try tracker.addContainer(container, addressSpace: .remapped)
      if isTracked { _ = tracker.startTracking() }
    }

    func map(_ page: UInt64, _ count: UInt64 = 1, to gpa: UInt64) -> TrackerError? {
      do throws(TrackerError) {
        try tracker.iommuMap(
          id, World.iova(page, count), to: GPA(gpa << 12), permissions: .readWrite)
        return nil
      } catch {
        return error
      }
    }

    var dirty: Set<UInt64> { log.peek(for: reader, runCountMax: Int.max).pages }
  }

  @Test func `what a device wrote through a map that failed half way is dirty, and unmapped`()
    throws
  {
    let bench = try Bench()
    let port = bench.port
    bench.container.failMapsHalfway { _ in _ = port.touch(IOVA(1 << 12)) }
    guard case .mapFailed? = bench.map(0, 4, to: 4) else {
      Issue.record("it did not fail")
      return
    }
    #expect(bench.dirty.contains(5))
    #expect(bench.tracker.mappings(of: bench.id).isEmpty)
    #expect(port.page(behind: IOVA(1 << 12)) == nil)
    bench.container.reset()
    #expect(bench.map(0, 4, to: 4) == nil)
    #expect(bench.tracker.containers[0].scopes == ["IOMMU hardware"])
  }

  @Test func `a map that failed half way and cannot be taken back stays known and dirty`()
    throws
  {
    let bench = try Bench()
    bench.container.failMapsHalfway()
    bench.faults.reset([
      .init(.unmap, ordinal: 1, errno: ContainerErrno.ebusy, isLasting: true)
    ])
    guard case .mapNotTakenBack(World.iova(0, 4), _, _)? = bench.map(0, 4, to: 4) else {
      Issue.record("it was taken back")
      return
    }
    #expect(bench.dirty == [4, 5, 6, 7])
    #expect(bench.tracker.mappings(of: bench.id).map(\.iova) == [World.iova(0, 4)])
    // There may be holes, at which this log would stop.
    #expect(bench.tracker.containers[0].scopes.contains { $0.contains("degraded") })
    _ = bench.tracker.log.harvest(for: bench.reader, pageCountMax: .max, runCountMax: .max)
    #expect(bench.port.touch(IOVA(2 << 12)) == GPA(6 << 12))
    _ = bench.tracker.sync(isFinal: true)
    #expect(bench.dirty.contains(6))
  }

  /// Three mappings side by side, of which an unmap has removed the first and then failed.
  private func half(isTracked: Bool = true) throws -> Bench {
    let bench = try Bench(isTracked: isTracked)
    for page in 0..<3 as Range<UInt64> { #expect(bench.map(page, to: page + 4) == nil) }
    bench.faults.reset([
      .init(.unmap, ordinal: 1, errno: ContainerErrno.ebusy, moment: .halfway),
      .init(.unmap, ordinal: 2, errno: ContainerErrno.ebusy),
    ])
    #expect(throws: TrackerError.self) {
      try bench.tracker.iommuUnmap(bench.id, World.iova(0, 3))
    }
    #expect(bench.port.page(behind: IOVA(0)) == nil)
    #expect(bench.port.page(behind: IOVA(2 << 12)) == 6)
    _ = bench.tracker.log.harvest(for: bench.reader, pageCountMax: .max, runCountMax: .max)
    return bench
  }

  @Test func `a write behind the hole that half an unmap left is found`() throws {
    let bench = try half()
    #expect(bench.port.touch(IOVA(2 << 12)) != nil)
    _ = bench.tracker.sync(isFinal: true)
    #expect(bench.dirty.contains(6))
  }

  @Test(arguments: [false, true])
  func `a log started after half an unmap does not walk over holes nobody knows`(
    isTracked: Bool
  ) throws {
    let bench = try half(isTracked: isTracked)
    if isTracked { _ = bench.tracker.stopTracking() }
    _ = bench.tracker.startTracking()
    #expect(bench.tracker.containers[0].scopes.contains { $0.contains("degraded") })
    #expect(bench.port.touch(IOVA(2 << 12)) != nil)
    _ = bench.tracker.sync(isFinal: true)
    #expect(bench.dirty.contains(6))
  }

  @Test(arguments: [false, true])
  func `what half an unmap removed is mapped when the guest maps it again`(
    saysWhatIsGone: Bool
  ) throws {
    let bench = try half()
    if !saysWhatIsGone { bench.container.hideWhatIsGone() }
    #expect(bench.map(0, to: 4) == nil)
    #expect(bench.port.page(behind: IOVA(0)) == 4)
    try bench.tracker.iommuUnmap(bench.id, World.iova(0, 3))
    #expect((0..<3).allSatisfy { bench.port.page(behind: IOVA($0 << 12)) == nil })
    #expect(bench.tracker.mappings(of: bench.id).isEmpty)
  }

  @Test func `a query that failed after it had cleared makes its window dirty`() throws {
    let bench = try Bench()
    #expect(bench.map(0, 4, to: 4) == nil)
    #expect(bench.port.touch(IOVA(1 << 12)) != nil)
    bench.faults.reset([
      .init(.query, ordinal: 1, errno: ContainerErrno.eio, moment: .after)
    ])
    _ = bench.tracker.sync(isFinal: false)
    #expect(bench.dirty == [4, 5, 6, 7])
  }

  @Test func `a remap that a full table has no room for leaves the old mapping whole`() throws {
    let tracker = DirtyTracker(log: GuestDirtyLog())
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 64)))
    let type1 = SimulatedType1(memory: GenerationMemory(pageCount: 64), dmaEntryLimit: 2)
    _ = type1.attachDevice("nic")
    let id = try tracker.addContainer(type1, addressSpace: .remapped)
    try tracker.iommuMap(id, World.iova(0, 8), to: GPA(0), permissions: .readWrite)
    try tracker.iommuMap(id, World.iova(100, 8), to: GPA(8 << 12), permissions: .readWrite)
    let before = tracker.mappings(of: id)
    // It would cut one, which fits, and then be one too many.
    #expect(throws: TrackerError.self) {
      try tracker.iommuMap(id, World.iova(4, 8), to: GPA(32 << 12), permissions: .readWrite)
    }
    #expect(tracker.mappings(of: id) == before)
    #expect(type1.mappingCount == 2)
  }
}
