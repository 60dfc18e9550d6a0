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

  /// Reads a line without its end.
  ///
  ///     dd-77  [001] d.h1.  2.572216: unmap: IOMMU: iova=0x… - 0x… size=4096 unmapped_size=4096
  init(_ bytes: [UInt8], _ range: Range<Int>) {
    var line = LineScanner(bytes, range)
    line.skipSpaces()
    if line.isAtEnd {
      self = .nothing
    } else if line.next == UInt8(ascii: "#") {
      self = Self.comment(line)
    } else if let at = line.last(Word.map) {
      self = Self.iommuEvent(line.at(at))
    } else if let at = line.last(Word.lost) {
      var rest = line.at(at &+ Word.lost.count)
      self = rest.decimal().map { .lostEvents(count: $0) } ?? .notUnderstood
    } else {
      self = Self.hasEventShape(line) ? .otherEvent : .notUnderstood
    }
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

  /// - Parameter name: stands at `map: IOMMU: iova=`.
  private static func iommuEvent(_ name: LineScanner) -> FtraceLine {
    var before = name
    let isUnmap = name.previous == UInt8(ascii: "n")
    if isUnmap {
      before.stepBack()
      guard before.previous == UInt8(ascii: "u") else { return .notUnderstood }
      before.stepBack()
    }
    var text = name
    guard text.take(Word.map), let first = text.hexadecimal(), text.take(Word.dash),
      let end = text.hexadecimal()
    else { return .notUnderstood }
    var address: UInt64 = 0
    if !isUnmap {
      guard text.take(Word.paddr), let value = text.hexadecimal() else { return .notUnderstood }
      address = value
    }
    guard text.take(Word.size), let size = text.decimal() else { return .notUnderstood }
    var unmapped = size
    if isUnmap {
      guard text.take(Word.unmappedSize), let value = text.decimal() else {
        return .notUnderstood
      }
      unmapped = value
    }
    text.skipSpaces()
    guard text.isAtEnd else { return .notUnderstood }
    // The end is exclusive, 0 for a range up to 2^64-1.
    guard let iova = IOVARange(first: IOVA(first), byteCount: size), first &+ size == end,
      isUnmap || GPA(address).advanced(byBytes: iova.lastOffset) != nil
    else { return .impossibleRange }
    let kind: FtraceEvent.Kind =
      isUnmap
      ? .unmap(iova: iova, unmappedByteCount: unmapped)
      : .map(iova: iova, gpaFirst: GPA(address))
    return .event(kind, timestampNanoseconds: timestamp(before))
  }

  /// `2.572216: ` behind the scanner, 0 when there is none.
  private static func timestamp(_ name: LineScanner) -> UInt64 {
    var text = name
    while text.previous == UInt8(ascii: " ") { text.stepBack() }
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
