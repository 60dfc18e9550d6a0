import Addressing

/// What one line of a recording says.
enum FtraceLine: Equatable {
  case event(FtraceEvent.Kind, timestampNanoseconds: UInt64)
  /// An event of another kind.
  case otherEvent
  case lostEvents(count: UInt64)
  /// A comment that says how many of the written events are still in the buffer.
  case bufferCount(kept: UInt64, written: UInt64)
  case nothing
  case impossibleRange
  case notUnderstood

  /// Reads a line without its end, of tracefs, `trace-cmd report` or `perf script`:
  ///
  ///     dd-77  [001] d.h1.  2.572216: unmap: IOMMU: iova=0x… - 0x… size=4096 unmapped_size=4096
  ///     dd-77  [001]        2.572216: unmap:                IOMMU: iova=0x… - 0x… size=4096 …
  ///     dd 77  [001]        2.572216: iommu:unmap: IOMMU: iova=0x… - 0x… size=4096 …
  init(_ bytes: [UInt8], _ range: Range<Int>) {
    var line = LineScanner(bytes, range)
    line.skipSpaces()
    if line.isAtEnd {
      self = .nothing
    } else if line.next == UInt8(ascii: "#") {
      self = Self.comment(line)
    } else if let at = line.last(Word.iommu), let event = Self.iommuEvent(line.at(at)) {
      self = event
    } else if let count = Self.lostCount(line) {
      self = count
    } else if Self.isPreamble(line) {
      self = .nothing
    } else {
      self = Self.hasEventShape(line) ? .otherEvent : .notUnderstood
    }
  }

  /// `CPU:1 [LOST 30 EVENTS]` of tracefs, `CPU:1 [30 EVENTS DROPPED]` of trace-cmd.
  private static func lostCount(_ line: LineScanner) -> FtraceLine? {
    var text: LineScanner
    if let at = line.last(Word.lost) {
      text = line.at(at &+ Word.lost.count)
    } else if let at = line.last(Word.dropped) {
      text = line.at(at)
      while LineScanner.isDecimal(text.previous) { text.stepBack() }
    } else {
      return nil
    }
    return text.decimal().map { .lostEvents(count: $0) } ?? .notUnderstood
  }

  /// What `trace-cmd report` says before the events: `cpus=2`, `CPU 1 is empty`.
  private static func isPreamble(_ line: LineScanner) -> Bool {
    var text = line
    if text.take(Word.processorCount) { return text.decimal() != nil && text.isAtEnd }
    return text.take(Word.processor) && text.decimal() != nil && text.take(Word.isEmpty)
      && text.isAtEnd
  }

  /// `# entries-in-buffer/entries-written: 33653/33653   #P:2`
  private static func comment(_ line: LineScanner) -> FtraceLine {
    guard let at = line.last(Word.entriesWritten) else { return .nothing }
    var text = line.at(at &+ Word.entriesWritten.count)
    guard let kept = text.decimal(), text.take(Word.slash), let written = text.decimal() else {
      return .notUnderstood
    }
    return .bufferCount(kept: kept, written: written)
  }

  /// - Parameter word: stands at the last `IOMMU:`.
  /// - Returns: nil for another event. What has the name of a map or unmap anywhere is never one: a
  ///   shape that is not known must not pass for an event that does not matter.
  private static func iommuEvent(_ word: LineScanner) -> FtraceLine? {
    var name = word
    name.stepBackOverSpaces()
    guard name.takeBack(Word.map) else { return namesMap(word) ? .notUnderstood : nil }
    let isUnmap = name.takeBack(Word.un)
    guard isBoundary(name.previous) else { return namesMap(word) ? .notUnderstood : nil }
    guard let fields = FtraceFields(word.at(word.position &+ Word.iommu.count)),
      fields.isWhole(isUnmap: isUnmap)
    else { return .notUnderstood }
    guard let kind = fields.event(isUnmap: isUnmap) else { return .impossibleRange }
    return .event(kind, timestampNanoseconds: timestamp(name))
  }

  private static func namesMap(_ line: LineScanner) -> Bool {
    line.contains(Word.map) { before in
      var before = before
      if isBoundary(before.previous) { return true }
      return before.takeBack(Word.un) && isBoundary(before.previous)
    }
  }

  /// What may stand before the name of an event: a blank, the colon of `iommu:map`, nothing.
  private static func isBoundary(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: ":")
      || byte == 0
  }

  /// `2.572216: ` behind the scanner, 0 when there is none.
  private static func timestamp(_ name: LineScanner) -> UInt64 {
    var text = name
    // `iommu:` of perf, and the period it may print before it.
    if text.previous == UInt8(ascii: ":") {
      while text.previous != 0, text.previous != UInt8(ascii: " ") { text.stepBack() }
    }
    text.stepBackOverSpaces()
    while LineScanner.isDecimal(text.previous) { text.stepBack() }
    text.stepBackOverSpaces()
    guard text.previous == UInt8(ascii: ":") else { return 0 }
    text.stepBack()
    while LineScanner.isDecimal(text.previous) || text.previous == UInt8(ascii: ".") {
      text.stepBack()
    }
    guard let seconds = text.decimal() else { return 0 }
    let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    guard !overflow else { return 0 }
    guard text.take(Word.dot) else { return whole }
    let (sum, isTooMuch) = whole.addingReportingOverflow(text.billionths())
    return isTooMuch ? 0 : sum
  }

  /// `task-1 [000] … 1.0: name: …`: a CPU in brackets and then a time.
  private static func hasEventShape(_ line: LineScanner) -> Bool {
    guard let bracket = line.last(Word.bracket) else { return false }
    var text = line.at(bracket)
    while !text.isAtEnd {
      if text.decimal() != nil {
        if text.take(Word.dot), text.decimal() != nil, text.take(Word.colon) { return true }
      } else {
        text.skip()
      }
    }
    return false
  }
}
