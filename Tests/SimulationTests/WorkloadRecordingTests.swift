import Addressing
import EventTrace
import Foundation
import IOVAMapping
import Simulation
import TestSupport
import Testing

@Suite struct WorkloadRecordingTests {
  /// Eight pages on each side of the hole.
  let layout = GuestLayout(byteCount: 16 * 4096)

  func iova(_ page: UInt64, _ count: UInt64 = 1) -> IOVARange {
    AddressRange(first: IOVA(page * 4096), last: IOVA((page + count) * 4096 - 1))
  }

  func gpa(_ page: UInt64) -> GPA { GPA(page * 4096) }

  func map(_ iova: IOVARange, gpa: GPA) -> FtraceEvent.Kind { .map(iova: iova, gpaFirst: gpa) }

  func unmap(_ iova: IOVARange) -> FtraceEvent.Kind {
    .unmap(iova: iova, unmappedByteCount: iova.byteCount ?? 0)
  }

  @Test func `pages keep their identity, fold by number, and a map across the hole is two`() {
    let traffic = RecordedTraffic(
      [
        map(iova(100), gpa: gpa(3)), map(iova(101, 4), gpa: gpa(6)),
        map(iova(110, 2), gpa: gpa(31)), unmap(iova(100, 5)),
      ], layout: layout)
    #expect(
      traffic.events == [
        .map(iova(100), gpa: gpa(3), .readWrite),
        .map(iova(101, 2), gpa: gpa(6), .readWrite),
        .map(iova(103, 2), gpa: GuestLayout.aboveHole, .readWrite),
        .map(iova(110), gpa: GPA(GuestLayout.aboveHole.rawValue + 7 * 4096), .readWrite),
        .map(iova(111), gpa: gpa(0), .readWrite),
        .unmap(iova(100, 5)), .unmap(iova(110, 2)),
      ])
    #expect(traffic.notes.splitMapCount == 2 && traffic.notes.leftMappedCount == 2)
    #expect(traffic.notes.mapCount == 3 && traffic.notes.unmapCount == 1)
    #expect(traffic.notes.liveCountMax == 5)
  }

  @Test func `double maps, their second unmaps and cuts of another domain are left out, counted`() {
    let odd = AddressRange(first: IOVA(5), last: IOVA(4100))
    let traffic = RecordedTraffic(
      [
        map(iova(10, 4), gpa: gpa(0)), map(iova(11), gpa: gpa(9)), unmap(iova(11)),
        unmap(iova(10, 4)), unmap(iova(10, 4)), map(odd, gpa: gpa(0)),
        map(iova(50, 17), gpa: gpa(0)), map(iova(11), gpa: gpa(2)), unmap(iova(11)),
      ], layout: layout)
    #expect(
      traffic.events == [
        .map(iova(10, 4), gpa: gpa(0), .readWrite), .unmap(iova(10, 4)),
        .map(iova(11), gpa: gpa(2), .readWrite), .unmap(iova(11)),
      ])
    let notes = traffic.notes
    #expect(notes.doubleMapCount == 1 && notes.bisectingUnmapCount == 1)
    #expect(notes.emptyUnmapCount == 1 && notes.unusableMapCount == 2)
    #expect(notes.leftMappedCount == 0)
  }

  @Test func `a recording is repeated for ever, from nothing mapped to nothing mapped`() {
    let traffic = RecordedTraffic(
      [map(iova(10, 2), gpa: gpa(1)), map(iova(12), gpa: gpa(4)), map(iova(20), gpa: gpa(4))],
      layout: layout)
    #expect(traffic.events.suffix(2) == [.unmap(iova(10, 3)), .unmap(iova(20))])
    var stream = IOMMUStream(traffic)
    let three = (0..<3 * traffic.events.count).map { _ in stream.next() }
    #expect(three == traffic.events + traffic.events + traffic.events)
    var empty = IOMMUStream(RecordedTraffic([], layout: layout))
    #expect(empty.next() == .idle && empty.next() == .idle)
  }

  @Test func `any recording becomes one that a strict table accepts round after round`() throws {
    let seed = TestSeed.seed(default: 31)
    var random = SeededGenerator(seed: seed)
    for round in 0..<60 {
      let layout = GuestLayout(byteCount: (2 + random.below(UInt64(40))) * 4096)
      var recorded: [FtraceEvent.Kind] = []
      for _ in 0..<200 {
        let range = iova(random.below(UInt64(40)), 1 + random.below(UInt64(6)))
        recorded.append(
          random.once(in: 2)
            ? unmap(range) : map(range, gpa: gpa(random.below(UInt64(1) << 40))))
      }
      let traffic = RecordedTraffic(recorded, layout: layout)
      var table = MappingTable(policy: .refuse)
      var stream = IOMMUStream(traffic)
      for step in 0..<traffic.events.count * 3 {
        if step % traffic.events.count == 0 { #expect(table.count == 0) }
        let event = stream.next()
        switch try #require(event) {
        case .map(let iova, let gpa, let permissions):
          let pages = try #require(GPARange(first: gpa, byteCount: iova.byteCount ?? 0))
          #expect(layout.region(holding: pages) != nil)
          try table.map(iova, to: gpa, permissions: permissions)
        case .unmap(let iova):
          let removed = try table.unmap(iova)
          #expect(removed.mappingCount > 0)
        case .passThrough, .idle: Issue.record("a recording has only maps and unmaps")
        }
      }
      #expect(
        table.count == 0, "round \(round); \(TestSeed.reproduce(seed, filter: "WorkloadRecording"))"
      )
      let notes = traffic.notes
      #expect(
        notes.mapCount + notes.doubleMapCount + notes.unusableMapCount + notes.unmapCount
          + notes.emptyUnmapCount + notes.bisectingUnmapCount == 200)
    }
  }

  @Test func `two pages of the recording are one of ours only where ours are too few`() {
    for pageCount in [UInt64(16), 64] {
      let layout = GuestLayout(byteCount: pageCount * 4096)
      let traffic = RecordedTraffic(
        (0..<32).map { map(iova($0), gpa: gpa($0)) }, layout: layout)
      let pages = traffic.events.compactMap { event -> GPA? in
        if case .map(_, let gpa, _) = event { gpa } else { nil }
      }
      #expect(pages.count == 32 && Set(pages).count == Int(min(pageCount, 32)))
    }
  }

  static let recordings = [
    "linux-7.2-vtd-e1000e-strict", "linux-7.2-vtd-nvme-lazy", "linux-7.2-vtd-nvme-strict",
    "linux-7.2-vtd-two-nvme-and-e1000e-strict",
  ]

  static func recorded(_ name: String) throws -> [FtraceEvent.Kind] {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let text = try Data(contentsOf: root.appending(path: "Traces/\(name).ftrace"))
    return FtraceImporter.read(Array(text)).events.map(\.kind)
  }

  @Test(arguments: recordings)
  func `a real guest's traffic is accepted by a strict table, also when it starts again`(
    name: String
  ) throws {
    let recorded = try Self.recorded(name)
    let isMixed = name.contains("two-nvme")
    let whole = RecordedTraffic(recorded, layout: GuestLayout(byteCount: 1 << 30))
    #expect(whole.notes.unusableMapCount == 0)
    #expect((whole.notes.doubleMapCount > 0) == isMixed, "\(whole.notes)")
    #expect((whole.notes.emptyUnmapCount + whole.notes.bisectingUnmapCount > 0) == isMixed)
    let ours = try pages(whole, rounds: 2)
    // Both have 1 GiB, so that no two pages become one.
    var theirs: Set<UInt64> = []
    for case .map(let iova, let gpa) in recorded {
      for page in 0..<iova.pageCount(.fourKiB) { theirs.insert(gpa.rawValue / 4096 + page) }
    }
    #expect(isMixed ? ours.isSubset(of: theirs) : ours == theirs)
    #expect(ours.count > 10)
    let small = RecordedTraffic(recorded, layout: GuestLayout(byteCount: 8 << 20))
    #expect(small.notes.mapCount == whole.notes.mapCount)
    _ = try pages(small, rounds: 1)
  }

  /// The page numbers a stream of it maps; every event must be accepted and do something.
  func pages(_ traffic: RecordedTraffic, rounds: Int) throws -> Set<UInt64> {
    var found: Set<UInt64> = []
    var table = MappingTable(policy: .refuse)
    var stream = IOMMUStream(traffic)
    for _ in 0..<traffic.events.count * rounds {
      switch stream.next() {
      case .map(let iova, let gpa, let permissions):
        try table.map(iova, to: gpa, permissions: permissions)
        let first = gpa.rawValue &- (gpa < GuestLayout.aboveHole ? 0 : (UInt64(7) << 29))
        for page in 0..<iova.pageCount(.fourKiB) { found.insert(first / 4096 + page) }
      case .unmap(let iova):
        let removed = try table.unmap(iova)
        #expect(removed.mappingCount > 0)
      default: Issue.record("a recording has only maps and unmaps")
      }
    }
    #expect(table.count == 0)
    return found
  }
}
