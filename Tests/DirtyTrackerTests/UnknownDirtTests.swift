import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import PageBitmap
import Simulation
import Testing

/// Dirt at IOVAs where the tracker knows of no mapping.
@Suite struct UnknownDirtTests {
  /// A container that its VMM drives, with RAM behind it and a device.
  private struct Bench {
    let memory = GenerationMemory(pageCount: 64)
    let faults = FaultPlan()
    let log = GuestDirtyLog()
    let tracker: DirtyTracker
    let type1: SimulatedType1
    let port: SimulatedDevicePort
    let id: ContainerID
    let reader: ConsumerID

    init(
      ownership: ContainerOwnership = .vmm, granule: DirtyLogGranule? = nil
    ) throws {
      tracker = DirtyTracker(log: log)
      try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 64)))
      reader = try tracker.log.addConsumer("reader", startsDirty: false)
      type1 = SimulatedType1(memory: memory, faults: faults)
      if let granule {
        let log = SimulatedDeviceLog(
          name: "log", rangeCountMax: 8, granule: granule, faults: faults)
        port = type1.attachDevice("nic", log: log)
      } else {
        port = type1.attachMediatedDevice("mdev")
      }
      id = try tracker.addContainer(type1, ownership: ownership, addressSpace: .remapped)
    }

    /// In the container, and in the tracker where it is told.
    func map(_ page: UInt64, _ count: UInt64, to gpa: UInt64, isTold: Bool) throws {
      let request = MapRequest(
        iova: World.iova(page, count), gpaFirst: GPA(gpa << 12), hvaFirst: nil,
        permissions: .readWrite)
      if isTold { try tell(page, count, to: gpa) }
      try type1.map(request)
    }

    func tell(_ page: UInt64, _ count: UInt64, to gpa: UInt64) throws {
      try tracker.iommuMap(
        id, World.iova(page, count), to: GPA(gpa << 12), permissions: .readWrite,
        isAhead: tracker.containers.first?.isTracking == false)
    }

    func write(_ page: UInt64) { _ = port.touch(IOVA(page << 12)) }

    func unknown(_ report: SyncReport) -> UInt64 {
      report.containers.reduce(0) { $0 + $1.unknownPages }
    }

    var dirty: Set<UInt64> { log.peek(for: reader, runCountMax: Int.max).pages }
  }

  private func notes(_ report: SyncReport) -> [String] {
    report.notes.filter { $0.contains("where nothing is mapped") }
  }

  @Test func `dirt of a map that is not told yet is counted and named, and is dirty once told`()
    throws
  {
    let bench = try Bench()
    try bench.map(0, 2, to: 0, isTold: true)
    try bench.map(40, 2, to: 10, isTold: true)
    _ = bench.tracker.startTracking()
    // Between the two, so that the window lies over it.
    try bench.map(20, 4, to: 30, isTold: false)
    bench.write(21)
    bench.write(22)
    bench.write(40)
    let report = bench.tracker.sync(isFinal: false)
    #expect(bench.unknown(report) == 2)
    let named = notes(report)
    #expect(named.count == 1 && named[0].contains("IOVA 0x15000"), "\(report.notes)")
    // No page of it is known, and none is guessed at.
    #expect(bench.dirty.isDisjoint(with: 30..<34))
    bench.write(23)
    let second = bench.tracker.sync(isFinal: false)
    #expect(bench.unknown(second) == 3 && notes(second).isEmpty)
    // Told late: the container's bits are gone or not, all of it counts as written.
    try bench.tell(20, 4, to: 30)
    let last = bench.tracker.sync(isFinal: true)
    #expect(bench.unknown(last) == 0)
    #expect(bench.dirty.isSuperset(of: 30..<34))
    #expect(bench.dirty.contains(10))
  }

  @Test func `dirt that an unmap returns of what was never told is counted and named`() throws {
    let bench = try Bench()
    try bench.map(0, 2, to: 0, isTold: true)
    _ = bench.tracker.startTracking()
    try bench.map(2, 2, to: 30, isTold: false)
    bench.write(1)
    bench.write(3)
    let all = World.iova(0, 4)
    var bitmap = try QueryBitmap(byteCountMax: 64)
    try bitmap.reset(window: all, pageSize: .fourKiB)
    _ = try bench.type1.unmap(reportingInto: &bitmap)
    try bench.tracker.iommuUnmapped(bench.id, all, dirty: bitmap)
    let report = bench.tracker.sync(isFinal: true)
    #expect(bench.unknown(report) == 1, "\(report)")
    #expect(notes(report).first?.contains("which page it was is not known") == true)
    #expect(bench.dirty.contains(1))
  }

  @Test func `what a granule adds beside a mapping is rounding, and no loss`() throws {
    // The device works in pages of 16 KiB: 1 is written, and 0 to 3 are answered.
    let granule = DirtyLogGranule(pageCount: 1, pageSize: try #require(PageSize(bytes: 16 << 10)))
    let bench = try Bench(granule: granule)
    try bench.map(1, 1, to: 1, isTold: true)
    try bench.map(14, 1, to: 2, isTold: true)
    _ = bench.tracker.startTracking()
    bench.write(1)
    bench.write(14)
    let report = bench.tracker.sync(isFinal: true)
    #expect(bench.unknown(report) == 0 && notes(report).isEmpty, "\(report)")
    #expect(bench.dirty.isSuperset(of: [1, 2]))
  }

  @Test func `a container that the tracker drives is not looked through`() throws {
    let bench = try Bench(ownership: .tracker)
    try bench.tell(0, 2, to: 0)
    try bench.tell(40, 2, to: 10)
    _ = bench.tracker.startTracking()
    // Behind its back, which is nobody's right.
    try bench.map(20, 4, to: 30, isTold: false)
    bench.write(21)
    #expect(bench.unknown(bench.tracker.sync(isFinal: true)) == 0)
  }
}
