import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOMMUFD
import PageBitmap
import Simulation

/// Section 3.7 beyond type1's limit: mappings of a page each on iommufd, in runs of 64 with a hole
/// after each, and what a sync of them costs. The mock IOMMU, which has dirty bits, reaches 2 GiB:
/// half a Mi of pages. A Mi go to the machine's own, which has none.
enum IOMMUFDScaleTest {
  private static let runLength: UInt64 = 64
  private static let ramPages: UInt64 = 4096

  /// - Parameter arguments: how many mappings; half a million when there is none.
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let count = arguments.first.flatMap { UInt64($0) } ?? 500_000
    let runCount = (count + runLength - 1) / runLength
    let calls = CountingIOMMUFDCalls()
    let world = try MockWorld(byteCount: ramPages << 12, calls: calls)
    let began = nanoseconds()
    for index in 0..<count { try world.map(page(index), 1, to: gpaPage(index)) }
    print("  \(count) maps: \((nanoseconds() - began) / count) ns each")
    result.expect("notes of the start", world.tracker.startTracking().notes, is: [])
    _ = world.take()

    var random = SplitMix64(seed: 7)
    for round in 0..<3 {
      var wanted: Set<UInt64> = []
      for _ in 0..<500 {
        let index = random.below(count)
        try world.write([page(index) * 2], in: MockWorld.pages(page(index), 1))
        wanted.insert(gpaPage(index))
      }
      _ = calls.counter.take()
      let start = nanoseconds()
      let (seen, notes) = world.sync()
      let total = nanoseconds() - start
      let taken = calls.counter.take()
      print(
        "  sync of \(count) mappings: \(taken.count) ioctls, \(total / 1000) us with the harvest, "
          + "of those \(taken.nanoseconds / 1000) us in the kernel; one per mapping would be "
          + "\(count)")
      result.expect("round \(round): one ioctl for each run", taken.count, is: Int(runCount))
      result.expect("round \(round): the log holds what was written", seen, is: wanted)
      result.expect("its notes", notes, is: [])
    }
    try onePerMapping(world, calls, count: count, runCount: runCount, into: &result)
    try unmapAll(world.tracker, world.id, calls.counter, into: &result)
    return result
  }

  /// A Mi in one IOAS behind the machine's IOMMU: nothing to ask, and no page left out.
  static func runOnEdu(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let count = arguments.first.flatMap { UInt64($0) } ?? 1 << 20
    let memory = try LabMemory(byteCount: Int(ramPages << 12))
    let calls = CountingIOMMUFDCalls()
    let container = try IOMMUFDContainer(calls: calls)
    try container.attachDevice("edu", path: EduDevice.characterDevice())
    let tracker = DirtyTracker(log: GuestDirtyLog())
    try tracker.regionAdded(
      RAMRegion(
        name: "ram", gpaFirst: GPA(0), byteCount: ramPages << 12, hvaFirst: HVA(memory.address)))
    let id = try tracker.addContainer(container, addressSpace: .remapped)
    let reader = try tracker.log.addConsumer("lab", startsDirty: false)
    let began = nanoseconds()
    for index in 0..<count {
      let first = 1 << 32 + page(index) << 12
      try tracker.iommuMap(
        id, AddressRange(first: IOVA(first), last: IOVA(first | 0xfff)),
        to: GPA(gpaPage(index) << 12), permissions: .readWrite)
    }
    print("  \(count) maps: \((nanoseconds() - began) / count) ns each")
    result.expect("that many are mapped", tracker.mappings(of: id).count, is: Int(count))
    _ = tracker.startTracking()
    _ = calls.counter.take()
    let start = nanoseconds()
    _ = tracker.sync(isFinal: true)
    print("  sync: \(calls.counter.take().count) ioctls, \((nanoseconds() - start) / 1000) us")
    let dirty = tracker.log.dirtyPageCount(for: reader)
    result.expect("every page that a device can write is in the log", dirty, is: ramPages)
    try unmapAll(tracker, id, calls.counter, into: &result)
    return result
  }

  private static func unmapAll(
    _ tracker: DirtyTracker, _ id: ContainerID, _ counter: CallCounter,
    into result: inout LabResult
  ) throws {
    let began = nanoseconds()
    try tracker.iommuUnmap(id, .wholeSpace)
    let milliseconds = (nanoseconds() - began) / 1_000_000
    print("  unmap of all: \(counter.take().count) ioctls, \(milliseconds) ms")
    result.expect("and nothing is mapped", tracker.mappings(of: id).count, is: 0)
  }

  private static func page(_ index: UInt64) -> UInt64 { index + index / runLength }

  /// Neighbours in IOVA are none in GPA.
  private static func gpaPage(_ index: UInt64) -> UInt64 { index * 37 % ramPages }

  /// The other way, for a part of the mappings, evenly chosen.
  private static func onePerMapping(
    _ world: MockWorld, _ calls: CountingIOMMUFDCalls, count: UInt64, runCount: UInt64,
    into result: inout LabResult
  ) throws {
    func nanosecondsPerCall(_ windows: [IOVARange]) throws -> Double {
      var bitmap = try QueryBitmap(byteCountMax: 4096)
      _ = calls.counter.take()
      for window in windows {
        try bitmap.reset(window: window, pageSize: .fourKiB)
        try world.logs[0].query(&bitmap, clear: true)
      }
      let taken = calls.counter.take()
      return Double(taken.nanoseconds) / Double(taken.count)
    }
    let each = try nanosecondsPerCall(
      stride(from: 0, to: count, by: Int(max(1, count / 2000))).map {
        MockWorld.pages(page($0), 1)
      })
    let whole = try nanosecondsPerCall(
      stride(from: 0, to: runCount, by: Int(max(1, runCount / 2000))).map {
        MockWorld.pages(page($0 * runLength), min(runLength, count - $0 * runLength))
      })
    let ratio = each * Double(count) / (whole * Double(runCount))
    print(
      "  one ioctl per mapping: \(Int(each)) ns each, one per run: \(Int(whole)) ns each: "
        + "\(Int(ratio)) times as long for all")
    result.check("one window for each run is faster than one per mapping", ratio > 4, "\(ratio)")
  }
}
