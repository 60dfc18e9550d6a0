import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import PageBitmap
import Simulation
import VFIOKernel

/// Sections 3.7 and 4: as many mappings as type1 takes, and what a sync of them costs.
enum ScaleTest {
  private static let base: UInt64 = 1 << 32
  private static let spec: Int = 60_000

  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    let name = try PinningDevice.create(1)
    try measure(name, into: &result)
    // Only now is the device closed: before, the kernel would wait for it.
    PinningDevice.remove(name)
    return result
  }

  private static func measure(_ name: String, into result: inout LabResult) throws {
    let calls = CountingCalls()
    let subject = try PinningSubject(name, calls: calls)
    let tracker = DirtyTracker(log: GuestDirtyLog())
    try tracker.begin()
    for region in subject.ram.ramRegions { try tracker.regionAdded(region) }
    try tracker.commit()
    let container = try tracker.addContainer(subject.container, addressSpace: .remapped)
    _ = try tracker.log.addConsumer("migration", startsDirty: false)
    let limit = subject.container.capabilities.mappingCountMax ?? 0
    result.expect("type1 says how many mappings it takes", limit, is: 65_535)

    for index in 0..<spec { try map(index, tracker, container) }
    result.expect("notes of the start", tracker.startTracking().notes, is: [])
    // One page each in a few, so that there is something to find.
    for index in stride(from: 0, to: spec, by: spec / 50) {
      _ = subject.device.order(.pin, iova(index), byteCount: 4096)
    }
    sync(tracker, calls, mappingCount: spec, into: &result)
    try onePerMapping(subject.container, calls, into: &result)

    for index in spec..<limit { try map(index, tracker, container) }
    sync(tracker, calls, mappingCount: limit, into: &result)
    refuse(limit, tracker, container, subject, into: &result)
    let warnings = subject.container.takeWarnings()
    result.check(
      "the end was announced before it came", warnings.contains { $0.contains("dma_avail") },
      "\(warnings)")
    let began = nanoseconds()
    _ = calls.counter.take()
    try tracker.iommuUnmap(container, .wholeSpace)
    print("  unmap of all: \(calls.counter.take().count) ioctls, \(milliseconds(since: began)) ms")
    result.expect("and nothing is mapped", tracker.mappings(of: container).count, is: 0)
    _ = tracker.stopTracking()
  }

  private static func iova(_ index: Int) -> UInt64 { base + UInt64(index) * 8192 }

  /// A hole after each, so that none can be merged with the next.
  private static func map(
    _ index: Int, _ tracker: DirtyTracker, _ container: ContainerID
  ) throws {
    let first = iova(index)
    try tracker.iommuMap(
      container, AddressRange(first: IOVA(first), last: IOVA(first + 4095)),
      to: GPA(UInt64(index % 2048) * 4096), permissions: .readWrite)
  }

  /// By the tracker, which does not ask, and by the kernel.
  private static func refuse(
    _ limit: Int, _ tracker: DirtyTracker, _ container: ContainerID, _ subject: PinningSubject,
    into result: inout LabResult
  ) {
    var refusals = ["", ""]
    do { try map(limit, tracker, container) } catch { refusals[0] = "\(error)" }
    let first = IOVA(iova(limit))
    do {
      try subject.container.map(
        MapRequest(
          iova: AddressRange(first: first, last: first.lastOfPage(.fourKiB)), gpaFirst: GPA(0),
          hvaFirst: subject.ram.ramRegions[0].hvaFirst, permissions: .readWrite))
    } catch { refusals[1] = "\(error)" }
    for refusal in refusals { print("  mapping \(limit + 1): \(refusal)") }
    result.check("the tracker refuses one mapping more", refusals[0].contains("\(limit)"))
    result.check(
      "so does the kernel, and the error says what to do",
      refusals[1].contains("ENOSPC") && refusals[1].contains("dma_entry_limit")
        && refusals[1].contains("iommufd"))
  }

  private static func milliseconds(since began: UInt64) -> UInt64 {
    (nanoseconds() - began) / 1_000_000
  }

  private static func sync(
    _ tracker: DirtyTracker, _ calls: CountingCalls, mappingCount: Int,
    into result: inout LabResult
  ) {
    _ = calls.counter.take()
    let began = nanoseconds()
    let report = tracker.sync(isFinal: false)
    let total = nanoseconds() - began
    let taken = calls.counter.take()
    print(
      "  sync of \(mappingCount) mappings: \(taken.count) ioctls, \(total / 1000) us, of those "
        + "\(taken.nanoseconds / 1000) us in the kernel; one per mapping would be \(mappingCount)")
    result.check(
      "a sync of \(mappingCount) mappings takes 1 to 4 ioctls",
      taken.count >= 1 && taken.count <= 4, "\(taken.count)")
    result.expect("its notes", report.notes, is: [])
    // Pinned pages wait for the final sync.
    result.expect("it found what is pinned", report.containers.map(\.heldBackPages), is: [50])
  }

  /// The other way, for a part of the mappings, evenly chosen: the kernel steps over all before
  /// the window in each call.
  private static func onePerMapping(
    _ container: Type1Container, _ calls: CountingCalls, into result: inout LabResult
  ) throws {
    let sample = 400
    _ = calls.counter.take()
    var bitmap = try QueryBitmap(byteCountMax: 32 << 10)
    for index in stride(from: 0, to: spec, by: spec / sample) {
      let first = iova(index)
      try bitmap.reset(
        window: AddressRange(first: IOVA(first), last: IOVA(first + 4095)), pageSize: .fourKiB)
      try container.dirtyLogs[0].query(&bitmap, clear: true)
    }
    let each = calls.counter.take()
    let whole = AddressRange(
      first: IOVA(base), last: IOVA(iova(spec - 1) + 4095))
    try bitmap.reset(window: whole, pageSize: .fourKiB)
    try container.dirtyLogs[0].query(&bitmap, clear: true)
    let once = calls.counter.take()
    let ratio =
      Double(each.nanoseconds) / Double(each.count) * Double(spec) / Double(once.nanoseconds)
    print(
      "  one ioctl per mapping: \(each.nanoseconds / UInt64(each.count) / 1000) us each, "
        + "\(Int(ratio)) times as long as one for all (\(once.nanoseconds / 1000) us)")
    result.check("one window for all is faster than one per mapping", ratio > 10, "\(ratio)")
  }
}
