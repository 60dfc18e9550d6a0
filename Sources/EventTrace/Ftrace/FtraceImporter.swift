import Addressing
import IOVAMapping

/// Reads text with Linux's `iommu:map` and `iommu:unmap` events, as it comes: of tracefs, of
/// `trace-cmd report`, of `perf script`.
///
/// Terms:
/// - **Recording**: such a text; `trace` or `trace_pipe` of tracefs in the first case.
/// - **Domain**: an I/O address space of the recording kernel. The events do not name it.
///
/// Invariants:
/// 1. Whatever the bytes are, it does not trap. A line it can not read is left out and noted.
/// 2. Memory is bounded: one line, the notes, and a table of what is mapped.
/// 3. Events come out in the order of the lines, each once.
///
/// Several domains in one recording can not be told apart. They show by IOVA that is mapped while
/// it is mapped, which is counted; replaying such a recording into one container means nothing.
public struct FtraceImporter: ~Copyable {
  public private(set) var summary = FtraceSummary()
  private let noteCountMax: Int
  private var table = MappingTable(policy: .split, retiredCountMax: 1)
  /// A line whose end has not come yet.
  private var held: [UInt8] = []
  private var isInLongLine = false
  private var endsInCarriageReturn = false

  public init(noteCountMax: Int = 100) { self.noteCountMax = max(noteCountMax, 0) }

  /// Everything at once.
  public static func read(
    _ bytes: [UInt8], noteCountMax: Int = 100
  ) -> (events: [FtraceEvent], summary: FtraceSummary) {
    var importer = FtraceImporter(noteCountMax: noteCountMax)
    var events: [FtraceEvent] = []
    importer.feed(bytes) { events.append($0) }
    importer.finish { events.append($0) }
    return (events, importer.summary)
  }

  /// Takes the next bytes, and calls `body` with each event that is complete.
  public mutating func feed(_ bytes: [UInt8], _ body: (FtraceEvent) -> Void) {
    var start = 0
    for index in bytes.indices where bytes[index] == UInt8(ascii: "\n") {
      if held.isEmpty && !isInLongLine {
        takeLine(bytes, start..<index, body)
      } else {
        hold(bytes, start..<index)
        finish(body)
      }
      start = index &+ 1
    }
    hold(bytes, start..<bytes.count)
  }

  /// The recording is over: what is left is its last line.
  public mutating func finish(_ body: (FtraceEvent) -> Void) {
    if isInLongLine {
      noteLongLine()
    } else if !held.isEmpty {
      let line = held
      takeLine(line, 0..<line.count, body)
    }
    held.removeAll(keepingCapacity: true)
    isInLongLine = false
  }

  private mutating func hold(_ bytes: [UInt8], _ range: Range<Int>) {
    if held.count &+ range.count > Limits.ftraceLineByteCountMax { isInLongLine = true }
    if isInLongLine {
      held.removeAll(keepingCapacity: true)
    } else {
      held.append(contentsOf: bytes[range])
    }
  }

  private mutating func noteLongLine() {
    summary.lineCount += 1
    summary.badLineCount += 1
    note(.lineTooLong(byteCountMax: Limits.ftraceLineByteCountMax))
  }

  private mutating func note(_ kind: FtraceNote.Kind) {
    if summary.notes.count < noteCountMax {
      summary.notes.append(FtraceNote(kind: kind, line: summary.lineCount))
    } else {
      summary.noteDroppedCount += 1
    }
  }

  private mutating func takeLine(
    _ bytes: [UInt8], _ range: Range<Int>, _ body: (FtraceEvent) -> Void
  ) {
    guard range.count <= Limits.ftraceLineByteCountMax else { return noteLongLine() }
    summary.lineCount += 1
    var range = range
    if !range.isEmpty, bytes[range.upperBound &- 1] == UInt8(ascii: "\r") {
      range = range.lowerBound..<(range.upperBound &- 1)
      if !endsInCarriageReturn { note(.endsInCarriageReturn) }
      endsInCarriageReturn = true
    }
    switch FtraceLine(bytes, range) {
    case .event(let kind, let timestamp):
      check(kind)
      body(
        FtraceEvent(kind: kind, timestampNanoseconds: timestamp, line: summary.lineCount))
    case .otherEvent: summary.otherEventCount += 1
    case .lostEvents(let count): lost(count)
    case .bufferCount(let kept, let written):
      if written > kept { lost(written &- kept) }
    case .nothing: break
    case .impossibleRange:
      summary.badLineCount += 1
      note(.impossibleRange)
    case .notUnderstood:
      summary.badLineCount += 1
      note(.notUnderstood)
    }
  }

  private mutating func lost(_ count: UInt64) {
    let (sum, overflow) = summary.lostEventCount.addingReportingOverflow(count)
    summary.lostEventCount = overflow ? .max : sum
    note(.eventsLost(count: count))
  }

  private mutating func check(_ kind: FtraceEvent.Kind) {
    switch kind {
    case .map(let iova, let gpaFirst):
      summary.mapCount += 1
      let last = GPA(gpaFirst.rawValue &+ iova.lastOffset)
      summary.gpaLast = max(summary.gpaLast ?? last, last)
      checkMap(iova, gpaFirst)
    case .unmap(let iova, let unmapped):
      summary.unmapCount += 1
      if unmapped != iova.byteCount {
        note(.unmappedOtherSize(iova, unmappedByteCount: unmapped))
      }
      checkUnmap(iova)
    }
  }

  private mutating func checkMap(_ iova: IOVARange, _ gpaFirst: GPA) {
    do throws(MappingError) {
      try table.map(iova, to: gpaFirst, permissions: .readWrite)
    } catch .overlap {
      summary.mappedTwiceCount += 1
      let twice = FtraceNote(kind: .mappedTwice(iova), line: summary.lineCount)
      if summary.firstMappedTwice == nil {
        summary.firstMappedTwice = twice
        note(twice.kind)
      }
    } catch {
      note(.notChecked(iova))
    }
  }

  private mutating func checkUnmap(_ iova: IOVARange) {
    do throws(MappingError) {
      guard try table.unmap(iova).mappingCount == 0 else { return }
      summary.unmapOfNothingCount += 1
      if summary.unmapOfNothingCount == 1 { note(.unmapOfNothing(iova)) }
    } catch {
      note(.notChecked(iova))
    }
  }
}
