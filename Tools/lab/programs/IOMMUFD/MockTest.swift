import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOMMUFD
import KernelTestSupport
import PageBitmap
import Simulation
import Synchronization

/// Section 3.2: the mock domain of the kernel's own iommufd test as oracle. What it makes dirty
/// is what the tracker's log holds.
enum MockTest {
  /// The buffers of the kernel's dirty tracking fixture, in bytes.
  static let sizes: [(byteCount: UInt64, isHuge: Bool)] = [
    (8 << 10, false), (16 << 10, false), (64 << 10, false), (128 << 10, false), (320 << 10, false),
    (64 << 20, false), (64 << 20, true), (128 << 20, false), (128 << 20, true),
  ]

  /// - Parameter arguments: a seed.
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    if let reason = MockDevice.unavailable() { throw LabError(reason) }
    var random = SplitMix64(seed: arguments.first.flatMap { UInt64($0) } ?? 1)
    for (byteCount, isHuge) in sizes { try fixture(byteCount, isHuge, &random, &result) }
    try holes(&random, &result)
    try windows(&random, &result)
    try severalTables(&random, &result)
    try untracked(&result)
    try racingUnmaps(&random, &result)
    try plantedFaults(&result)
    try MockScript.run(&random, &result)
    try MockScript.runHuge(&result)
    return result
  }

  /// Every second entry, then random ones, then none.
  private static func fixture(
    _ byteCount: UInt64, _ isHuge: Bool, _ random: inout SplitMix64, _ result: inout LabResult
  ) throws {
    let world = try MockWorld(byteCount: byteCount, isHuge: isHuge)
    let pageCount = byteCount >> 12
    let range = MockWorld.pages(0, pageCount)
    try world.map(0, pageCount, to: 0)
    let start = world.tracker.startTracking()
    let name = "\(byteCount >> 10) KiB\(isHuge ? " huge" : "")"
    result.check("\(name): the tracker has an exact log", start.notes.isEmpty, "\(start.notes)")
    _ = world.take()
    var rounds: [Set<UInt64>] = [Set(stride(from: 0, to: pageCount * 2, by: 2)), []]
    for count: UInt64 in [1, 7, 300] {
      rounds.append(Set((0..<count).map { _ in random.below(pageCount * 2) }))
    }
    rounds.append([])
    for (index, halves) in rounds.enumerated() {
      try world.write(halves, in: range)
      let wanted = Set(halves.map { $0 / 2 })
      let (seen, notes) = world.sync()
      let coarse = Set(wanted.map { $0 / 256 })
      let holds =
        isHuge
        ? seen.isSuperset(of: wanted) && Set(seen.map { $0 / 256 }) == coarse : seen == wanted
      result.check(
        "\(name), round \(index): \(halves.count) entries written, \(seen.count) pages in the log",
        holds && notes.isEmpty,
        "missing \(wanted.subtracting(seen).sorted().prefix(8)), more"
          + " \(seen.subtracting(wanted).sorted().prefix(8)), \(notes)")
    }
  }

  /// Mappings with holes between them, not in the order of their GPA.
  private static func holes(_ random: inout SplitMix64, _ result: inout LabResult) throws {
    let world = try MockWorld(byteCount: 4 << 20)
    var gpaPage: [UInt64: UInt64] = [:]
    for index: UInt64 in 0..<50 {
      let (page, count, gpa) = (index * 29, 1 + index % 19, (49 - index) * 19)
      try world.map(page, count, to: gpa)
      for offset in 0..<count { gpaPage[page + offset] = gpa + offset }
    }
    _ = world.tracker.startTracking()
    _ = world.take()
    for round in 0..<8 {
      var wanted: Set<UInt64> = []
      for (page, gpa) in gpaPage where random.once(in: 5) {
        try world.write([page * 2 + 1], in: MockWorld.pages(page, 1))
        wanted.insert(gpa)
      }
      result.expect("holes, round \(round)", world.sync().pages, is: wanted)
    }
    // Why there is a query for each run: one across the hole is silent about what lies behind it.
    try world.write([0], in: MockWorld.pages(0, 1))
    try world.write([58], in: MockWorld.pages(29, 1))
    let across = try query(world.logs[0], 0, 40, clear: true)
    result.expect("a query across a hole says nothing of what lies behind it", across, is: [0])
    result.expect("which a sync still finds", world.sync().pages, is: [48 * 19])
  }

  /// Page numbers from the base.
  private static func query(
    _ log: HWPTDirtyLog, _ first: UInt64, _ count: UInt64, clear: Bool
  ) throws -> Set<UInt64> {
    var bitmap = try QueryBitmap(byteCountMax: 1 << 20)
    try bitmap.reset(window: MockWorld.pages(first, count), pageSize: .fourKiB)
    try log.query(&bitmap, clear: clear)
    var pages: Set<UInt64> = []
    bitmap.forEachDirtyRun { run in
      for page in run.first.rawValue >> 12...run.last.rawValue >> 12 {
        pages.insert(page - MockWorld.base >> 12)
      }
    }
    return pages
  }

  /// Windows that begin and end anywhere in a mapping; looked at, then taken.
  private static func windows(_ random: inout SplitMix64, _ result: inout LabResult) throws {
    let world = try MockWorld(byteCount: 2 << 20)
    try world.map(0, 512, to: 0)
    let log = world.logs[0]
    do {
      _ = try query(log, 0, 512, clear: true)
      result.check("a query before the start is refused", false)
    } catch let error as ContainerError {
      result.check("a query before the start is refused", error.errno == 0)
    }
    try log.start(logging: [], pageSize: .fourKiB)
    var dirty: Set<UInt64> = []
    var wrong: [String] = []
    for step in 0..<300 {
      let halves = Set((0..<random.below(UInt64(20))).map { _ in random.below(UInt64(1024)) })
      try world.write(halves, in: MockWorld.pages(0, 512))
      dirty.formUnion(halves.map { $0 / 2 })
      let first = random.below(UInt64(512))
      let count = 1 + random.below(512 - first)
      let wanted = dirty.filter { $0 >= first && $0 < first + count }
      let peeked = try query(log, first, count, clear: false)
      let taken = try query(log, first, count, clear: true)
      dirty.subtract(wanted)
      if peeked != wanted || taken != wanted { wrong.append("step \(step): \(first)+\(count)") }
    }
    result.check(
      "300 windows anywhere: NO_CLEAR sees what is dirty, and a clear then takes it", wrong.isEmpty,
      "\(wrong.prefix(5))")
    // An unmap takes its dirt along: NO_CLEAR, then unmap, as the tracker does.
    try world.write([6], in: MockWorld.pages(0, 512))
    _ = world.tracker.startTracking()
    _ = world.take()
    try world.write([10], in: MockWorld.pages(0, 512))
    try world.tracker.iommuUnmap(world.id, MockWorld.pages(0, 512))
    result.check("what was written before an unmap is in the log", world.take().contains(5))
  }

  private static func severalTables(
    _ random: inout SplitMix64, _ result: inout LabResult
  ) throws {
    let world = try MockWorld(byteCount: 1 << 20, deviceCount: 3)
    try world.map(0, 256, to: 0)
    _ = world.tracker.startTracking()
    _ = world.take()
    for round in 0..<5 {
      var wanted: Set<UInt64> = []
      for device in 0..<3 {
        let halves = Set((0..<random.below(UInt64(30))).map { _ in random.below(UInt64(512)) })
        try world.write(halves, in: MockWorld.pages(0, 256), device: device)
        wanted.formUnion(halves.map { $0 / 2 })
      }
      result.expect(
        "three tables, round \(round): the log has all of them", world.sync().pages, is: wanted)
    }
  }

  /// A tracker that leaves out a step: what was written is then not in the log.
  private static func plantedFaults(_ result: inout LabResult) throws {
    for omission in [TrackerOmission.query, .unmap] {
      let world = try MockWorld(byteCount: 1 << 20, omitting: [omission])
      try world.map(0, 256, to: 0)
      _ = world.tracker.startTracking()
      _ = world.take()
      try world.write([10], in: MockWorld.pages(0, 256))
      if omission == .unmap { try world.tracker.iommuUnmap(world.id, MockWorld.pages(0, 256)) }
      result.check(
        "a tracker that leaves out its \(omission) is noticed", !world.sync().pages.contains(5))
    }
  }

  private static func untracked(_ result: inout LabResult) throws {
    let container = try IOMMUFDContainer()
    let device = try MockDevice(in: container, hasDirtyBits: false)
    defer { device.destroy() }
    do {
      _ = try container.allocateHWPT("none", device: device.deviceID)
      result.check("a table with dirty bits is refused where the IOMMU has none", false)
    } catch {
      result.expect(
        "a table with dirty bits is refused where the IOMMU has none", error.errno, is: 95)
    }
    let added = try container.addDevice("none", id: device.deviceID, hwpt: nil)
    result.check(
      "such a device is everything mapped, and says why",
      added.log.capabilities.scope == .everythingMapped && !container.notes.isEmpty)
  }

  /// One thread syncs; the other writes, and unmaps what it wrote to.
  private static func racingUnmaps(_ random: inout SplitMix64, _ result: inout LabResult) throws {
    let world = try MockWorld(byteCount: 4 << 20)
    for slot: UInt64 in 0..<16 { try world.map(slot * 80, 64, to: slot * 64) }
    _ = world.tracker.startTracking()
    _ = world.take()
    let tracker = world.tracker
    let end = EndOfRace()
    let syncer = try SimulatedThread(name: "syncer") {
      while !end.isReached.load(ordering: .acquiring) { _ = tracker.sync(isFinal: false) }
    }
    var wanted: Set<UInt64> = []
    for _ in 0..<400 {
      let slot = random.below(UInt64(16))
      let page = random.below(UInt64(64))
      try world.write([(slot * 80 + page) * 2], in: MockWorld.pages(slot * 80, 64))
      wanted.insert(slot * 64 + page)
      if random.once(in: 2) {
        try tracker.iommuUnmap(world.id, MockWorld.pages(slot * 80, 64))
        try world.map(slot * 80, 64, to: slot * 64)
      }
    }
    end.isReached.store(true, ordering: .releasing)
    syncer.join()
    let seen = world.sync(isFinal: true).pages
    result.check(
      "400 writes that race with unmaps and syncs are all in the log", seen.isSuperset(of: wanted),
      "missing \(wanted.subtracting(seen).sorted().prefix(8))")
  }
}

private final class EndOfRace: Sendable {
  let isReached = Atomic(false)
}
