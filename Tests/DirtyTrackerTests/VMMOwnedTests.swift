import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import PageBitmap
import Simulation
import Testing

/// Containers whose maps and unmaps the VMM performs: what it tells, and what it cannot be told.
@Suite struct VMMOwnedTests {
  private final class Bench {
    let log = GuestDirtyLog()
    let tracker: DirtyTracker
    let type1: SimulatedType1
    let port: SimulatedDevicePort
    let id: ContainerID
    let reader: ConsumerID

    init(limit: Int = 100, log deviceLog: SimulatedDeviceLog? = nil) throws {
      tracker = DirtyTracker(log: log)
      try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 16)))
      reader = try tracker.log.addConsumer("reader", startsDirty: false)
      type1 = SimulatedType1(
        memory: GenerationMemory(pageCount: 16), dmaEntryLimit: limit)
      if let deviceLog {
        port = type1.attachDevice("nic", log: deviceLog)
      } else {
        port = type1.attachMediatedDevice("mdev")
      }
      id = try tracker.addContainer(type1, ownership: .vmm, addressSpace: .remapped)
    }

    func map(_ page: UInt64, _ count: UInt64, to gpa: UInt64) throws {
      try tracker.iommuMap(
        id, World.iova(page, count), to: GPA(gpa << 12), permissions: .readWrite, isAhead: true)
    }

    func takeDirty() -> Set<UInt64> {
      let harvest = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
      tracker.log.delivered(harvest)
      return harvest.runs.pages
    }
  }

  @Test func `a mapping that the table has no place for makes every page dirty in every sync`()
    throws
  {
    let bench = try Bench(limit: 1)
    try bench.map(0, 1, to: 3)
    _ = bench.tracker.startTracking()
    #expect(throws: TrackerError.self) { try bench.map(4, 1, to: 5) }
    #expect(bench.takeDirty().count == 16)
    for _ in 0..<2 {
      _ = bench.tracker.sync(isFinal: false)
      #expect(bench.takeDirty().count == 16)
    }
  }

  @Test func `an unmap that the table has no room to note makes every page dirty`() throws {
    let bench = try Bench(limit: 1)
    try bench.map(0, 8, to: 0)
    _ = bench.tracker.startTracking()
    #expect(throws: TrackerError.self) {
      try bench.tracker.iommuUnmapped(bench.id, World.iova(3))
    }
    #expect(bench.takeDirty().count == 16)
  }

  @Test func `a bitmap answers for its window, and the rest of the range counts as written`() throws
  {
    let bench = try Bench()
    try bench.map(0, 8, to: 4)
    _ = bench.tracker.startTracking()
    var bitmap = try QueryBitmap(byteCountMax: 8)
    try bitmap.reset(window: World.iova(2, 3), pageSize: .fourKiB)
    bitmap.insert(World.iova(3))
    try bench.tracker.iommuUnmapped(bench.id, World.iova(0, 8), dirty: bitmap)
    #expect(bench.takeDirty() == [4, 5, 7, 9, 10, 11])
  }

  @Test func `a device's own log adds to the bitmap that the VMM got`() throws {
    let deviceLog = SimulatedDeviceLog(name: "device log")
    let bench = try Bench(log: deviceLog)
    try bench.map(0, 4, to: 4)
    try bench.type1.map(
      MapRequest(
        iova: World.iova(0, 4), gpaFirst: GPA(4 << 12), hvaFirst: nil, permissions: .readWrite))
    _ = bench.tracker.startTracking()
    #expect(bench.port.touch(IOVA(1 << 12)) != nil)
    var bitmap = try QueryBitmap(byteCountMax: 8)
    try bitmap.reset(window: World.iova(0, 4), pageSize: .fourKiB)
    try bench.tracker.iommuUnmapped(bench.id, World.iova(0, 4), dirty: bitmap)
    #expect(bench.takeDirty() == [5])
  }
}
