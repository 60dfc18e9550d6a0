import Addressing
import EventTrace
import Foundation
import TestSupport
import Testing

@Suite struct FtraceImporterTests {
  private static func recording(_ name: String) throws -> [UInt8] {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    return Array(try Data(contentsOf: root.appendingPathComponent("Traces/\(name).ftrace")))
  }

  private static func read(_ text: String) -> (events: [FtraceEvent], summary: FtraceSummary) {
    FtraceImporter.read(Array(text.utf8))
  }

  @Test func `lines of both events are read with their time`() {
    let (events, summary) = Self.read(
      """
      # tracer: nop
      #
      # entries-in-buffer/entries-written: 2/2   #P:2

                    dd-80      [000] .....     2.573341: map: IOMMU: iova=0x00000000fffa0000 - \
      0x00000000fffb0000 paddr=0x000000001fe8d000 size=65536
                    sh-74      [000] d.h1.    12.5: unmap: IOMMU: iova=0x00000000fffa0000 - \
      0x00000000fffb0000 size=65536 unmapped_size=65536
      """)
    let iova = AddressRange(first: IOVA(0xfffa_0000), last: IOVA(0xfffa_ffff))
    #expect(
      events == [
        FtraceEvent(
          kind: .map(iova: iova, gpaFirst: GPA(0x1fe8_d000)),
          timestampNanoseconds: 2_573_341_000, line: 5),
        FtraceEvent(
          kind: .unmap(iova: iova, unmappedByteCount: 65536),
          timestampNanoseconds: 12_500_000_000, line: 6),
      ])
    #expect(summary.notes.isEmpty)
    #expect(summary.gpaLast == GPA(0x1fe9_cfff))
    #expect(
      events[0].trackerEvent(container: 2)
        == .mapped(
          container: 2, iova: iova, gpaFirst: GPA(0x1fe8_d000), permissions: .readWrite))
    #expect(events[1].trackerEvent(container: 2) == .unmapped(container: 2, iova: iova))
  }

  @Test func `a real recording of one device is clean`() throws {
    let bytes = try Self.recording("linux-7.2-vtd-e1000e-strict")
    let (events, summary) = FtraceImporter.read(bytes)
    #expect(summary.mapCount == 515)
    #expect(summary.unmapCount == 514)
    #expect(events.count == 1029)
    #expect(summary.lineCount == 1041)
    #expect(summary.badLineCount == 0)
    #expect(summary.mappedTwiceCount == 0)
    #expect(summary.lostEventCount == 0)
    #expect(summary.notes == [])
    #expect(zip(events, events.dropFirst()).allSatisfy { $0.0.line < $0.1.line })
  }

  @Test func `a real recording of several devices is known by IOVA mapped twice`() throws {
    let whole = try Self.recording("linux-7.2-vtd-two-nvme-and-e1000e-strict")
    let (_, summary) = FtraceImporter.read(Array(whole.prefix(200_000)))
    #expect(summary.mappedTwiceCount > 100)
    #expect(summary.firstMappedTwice?.line == 31)
    #expect(
      summary.notes.contains {
        if case .mappedTwice = $0.kind { $0.description.contains("several domains") } else { false }
      })
    // The cut goes through a line.
    #expect(summary.badLineCount == 1)
  }

  @Test func `the same comes out in whatever pieces the bytes come in`() throws {
    let seed = TestSeed.seed(default: 3)
    var random = SeededGenerator(seed: seed)
    let bytes = Array(try Self.recording("linux-7.2-vtd-e1000e-strict").prefix(30_000))
    let (expected, summary) = FtraceImporter.read(bytes)
    for _ in 0..<5 {
      var importer = FtraceImporter()
      var events: [FtraceEvent] = []
      var next = 0
      while next < bytes.count {
        let end = min(bytes.count, next + 1 + random.below(400))
        importer.feed(Array(bytes[next..<end])) { events.append($0) }
        next = end
      }
      importer.finish { events.append($0) }
      #expect(events == expected, "\(TestSeed.reproduce(seed, filter: "FtraceImporterTests"))")
      #expect(importer.summary == summary)
    }
  }

  private static let map = "a-1 [000] ..... 1.0: map: IOMMU: "

  @Test(arguments: [
    ("garbage", FtraceNote.Kind.notUnderstood),
    ("\(map)iova=0x1000 - 0x2000 paddr=0x0 size=", .notUnderstood),
    ("\(map)iova=0x1000 - 0x2000 size=4096", .notUnderstood),
    ("\(map)iova=0x1000 - 0x2000 paddr=0x1 size=4096 x", .notUnderstood),
    ("\(map)iova=0x11112222333344445 - 0x2000 paddr=0x1 size=4096", .notUnderstood),
    ("\(map)iova=0x1000 - 0x2000 paddr=0x1 size=99999999999999999999", .notUnderstood),
    ("\(map)iova=0x1000 - 0x1000 paddr=0x0 size=0", .impossibleRange),
    ("\(map)iova=0x1000 - 0x3000 paddr=0x0 size=4096", .impossibleRange),
    ("\(map)iova=0xfffffffffffff000 - 0x1000 paddr=0x0 size=8192", .impossibleRange),
    ("\(map)iova=0x0 - 0x2000 paddr=0xfffffffffffff000 size=8192", .impossibleRange),
  ])
  func `a line that can not be is noted by number and left out`(
    line: String, kind: FtraceNote.Kind
  ) {
    let good = "\(Self.map)iova=0x5000 - 0x6000 paddr=0x0 size=4096"
    let (events, summary) = Self.read("\(good)\n\(line)\n")
    #expect(events.count == 1)
    #expect(summary.badLineCount == 1)
    #expect(summary.notes == [FtraceNote(kind: kind, line: 2)])
  }

  @Test func `a range up to the very end of the space is read`() {
    let (events, summary) = Self.read(
      "\(Self.map)iova=0xfffffffffffff000 - 0x0000000000000000 paddr=0x0 size=4096")
    #expect(summary.notes == [])
    #expect(
      events.first?.kind
        == .map(
          iova: AddressRange(first: IOVA(0xffff_ffff_ffff_f000), last: IOVA(.max)),
          gpaFirst: GPA(0)))
  }

  @Test func `lost events, other events, CR LF and short unmaps are said`() {
    let (events, summary) = Self.read(
      "# entries-in-buffer/entries-written: 5/12   #P:2\r\n"
        + "CPU:1 [LOST 30 EVENTS]\r\n"
        + "a-1 [000] ..... 1.0: attach_device_to_domain: IOMMU: device=0000:00:03.0\r\n"
        + "\(Self.map)iova=0x1000 - 0x3000 paddr=0x0 size=8192\r\n"
        + "a-1 [000] ..... 1.0: unmap: IOMMU: iova=0x1000 - 0x3000 size=8192 unmapped_size=4096\r\n"
        + "a-1 [000] ..... 1.0: unmap: IOMMU: iova=0x9000 - 0xa000 size=4096 unmapped_size=4096\r\n"
    )
    #expect(events.count == 3)
    #expect(summary.lostEventCount == 37)
    #expect(summary.otherEventCount == 1)
    #expect(summary.badLineCount == 0)
    #expect(summary.unmapOfNothingCount == 1)
    let short = AddressRange(first: IOVA(0x1000), last: IOVA(0x2fff))
    let nothing = AddressRange(first: IOVA(0x9000), last: IOVA(0x9fff))
    #expect(
      summary.notes == [
        FtraceNote(kind: .endsInCarriageReturn, line: 1),
        FtraceNote(kind: .eventsLost(count: 7), line: 1),
        FtraceNote(kind: .eventsLost(count: 30), line: 2),
        FtraceNote(kind: .unmappedOtherSize(short, unmappedByteCount: 4096), line: 5),
        FtraceNote(kind: .unmapOfNothing(nothing), line: 6),
      ])
  }

  private static let iova = AddressRange(first: IOVA(0x1000), last: IOVA(0x2fff))
  private static let mapped = "paddr=0x7000 size=8192"
  private static let unmapped = "size=8192 unmapped_size=8192"
  private static let aMap = FtraceEvent.Kind.map(iova: iova, gpaFirst: GPA(0x7000))
  private static let anUnmap = FtraceEvent.Kind.unmap(iova: iova, unmappedByteCount: 8192)

  @Test(arguments: [
    // trace-cmd report, with and without the flags of newer versions.
    (" 2.573341: map:                  IOMMU: iova=0x1000 - 0x3000 \(mapped)", aMap),
    ("d.h1. 2.573341: unmap:\t IOMMU: iova=0x1000 - 0x3000 \(unmapped)", anUnmap),
    // Before Linux 5.17 the size gives the end, and once it was hexadecimal.
    ("....  2.573341: map: IOMMU: iova=0x1000 \(mapped)", aMap),
    ("....  2.573341: unmap: IOMMU: iova=0x1000 \(unmapped)", anUnmap),
    ("....  2.573341: map: IOMMU: iova=0x1000 paddr=0x7000 size=0x2000", aMap),
    ("....  2.573341: unmap: IOMMU: iova=0x1000 size=0x2000 unmapped_size=0x2000", anUnmap),
    // Kernels that say which device.
    ("....  2.573341: map: IOMMU: dev=0000:00:03.0 iova=0x1000 - 0x3000 \(mapped)", aMap),
    ("....  2.573341: unmap: IOMMU: iova=0x1000 - 0x3000 \(unmapped) dev=0000:00:03.0", anUnmap),
    // perf script, with its period as well.
    ("    2.573341: iommu:map: IOMMU: iova=0x1000 - 0x3000 \(mapped)", aMap),
    (" 2.573341:        1    iommu:unmap: IOMMU: iova=0x1000 - 0x3000 \(unmapped)", anUnmap),
  ])
  func `each tool's way to write the events is read, with its time`(
    line: String, kind: FtraceEvent.Kind
  ) {
    let (events, summary) = Self.read("dd-80   [000] " + line)
    #expect(events.map(\.kind) == [kind])
    #expect(events.map(\.timestampNanoseconds) == [2_573_341_000])
    #expect(summary.badLineCount == 0 && summary.otherEventCount == 0)
  }

  @Test func `perf's nanoseconds are kept, and its lines without a time are read`() {
    let fields = "iova=0x1000 - 0x3000 paddr=0x7000 size=8192"
    let (events, _) = Self.read(
      "dd 80 [000] 2.573341987: iommu:map: IOMMU: \(fields)\ndd 80 iommu:map: IOMMU: \(fields)")
    #expect(events.map(\.timestampNanoseconds) == [2_573_341_987, 0])
  }

  @Test func `half a file of trace-cmd lines is not dropped in silence`() {
    var text = ""
    for page in 1...300 {
      let first = String(page * 2, radix: 16)
      let end = String(page * 2 + 1, radix: 16)
      let range = "iova=0x\(first)000 - 0x\(end)000"
      text += "a-1 [000] ..... 1.0: map: IOMMU: \(range) paddr=0x0 size=4096\n"
      text += "a-1 [000] 1.0: unmap:                IOMMU: \(range) size=4096 unmapped_size=4096\n"
    }
    let (events, summary) = Self.read(text)
    #expect(events.count == 600 && summary.mapCount == 300 && summary.unmapCount == 300)
    #expect(summary.badLineCount == 0 && summary.otherEventCount == 0)
  }

  @Test(arguments: [
    "a-1 [000] ..... 1.0: map: IOMMU: begin 0x1000 for 4096",
    "a-1 [000] ..... 1.0: map: IOMMU: iova=0x1000 iova=0x1000 paddr=0x0 size=4096",
    "a-1 [000] ..... 1.0: unmap: IOMMU: iova=0x1000 size=4096",
    "a-1 [000] ..... 1.0: map: IOMMU: iova=4096 paddr=0x0 size=4096",
    "a-1 [000] ..... 1.0: map: something IOMMU: iova=0x1000 paddr=0x0 size=4096",
    "a 1 [000] 1.0: iommu:unmap: of IOMMU: what",
  ])
  func `a map or unmap in a shape that is not known is a bad line, never another event`(
    line: String
  ) {
    let (events, summary) = Self.read(line)
    #expect(events.isEmpty && summary.otherEventCount == 0)
    #expect(summary.badLineCount == 1)
    #expect(summary.notes == [FtraceNote(kind: .notUnderstood, line: 1)])
  }

  @Test func `events of other names are others, though they end in map or name an IOMMU`() {
    let (events, summary) = Self.read(
      """
      a-1 [000] ..... 1.0: dma_map: IOMMU: iova=0x1000 paddr=0x0 size=4096
      a-1 [000] ..... 1.0: io_page_fault: IOMMU:e1000e 0000:00:03.0 iova=0x0 flags=0x0000
      a-1 [000] ..... 1.0: map: of something else
      """)
    #expect(events.isEmpty && summary.otherEventCount == 3 && summary.badLineCount == 0)
  }

  @Test func `what trace-cmd says before the events is no bad line, and what it lost is counted`() {
    let (_, summary) = Self.read("cpus=2\nCPU 1 is empty\nCPU:0 [30 EVENTS DROPPED]\n")
    #expect(summary.badLineCount == 0 && summary.otherEventCount == 0)
    #expect(summary.lostEventCount == 30)
  }

  @Test func `notes and lines are bounded`() {
    let text = String(repeating: "garbage\n", count: 500) + String(repeating: "x", count: 100_000)
    let (_, summary) = FtraceImporter.read(Array(text.utf8), noteCountMax: 10)
    #expect(summary.notes.count == 10)
    #expect(summary.noteDroppedCount == 491)
    #expect(summary.badLineCount == 501)
    #expect(summary.lineCount == 501)
    let (_, after) = Self.read(String(repeating: "x", count: 5000) + "\n# end\n")
    #expect(
      after.notes == [
        FtraceNote(kind: .lineTooLong(byteCountMax: Limits.ftraceLineByteCountMax), line: 1)
      ])
    #expect(after.lineCount == 2)
  }

  @Test func `random damage does not trap`() throws {
    let seed = TestSeed.seed(default: 8)
    var random = SeededGenerator(seed: seed)
    let bytes = Array(try Self.recording("linux-7.2-vtd-e1000e-strict").prefix(4000))
    let (sound, _) = FtraceImporter.read(bytes)
    var bad = 0
    for _ in 0..<300 {
      var damaged = bytes
      for _ in 0..<(1 + random.below(6)) {
        damaged[random.below(damaged.count)] = UInt8(truncatingIfNeeded: random.next())
      }
      let (events, summary) = FtraceImporter.read(damaged)
      #expect(events.count <= sound.count + 6)
      bad += summary.badLineCount
    }
    #expect(bad > 100)
  }
}
