import Addressing
import GuestDirtyLog
import IOVAMapping
import PageBitmap

/// The walk of a table under an answer, in batches, by one of three ways.
///
/// In **runs**, what goes on in IOVA and GPA comes as one: few, and the answer's bits lead from one
/// to the next. Where mappings do not go on, **lines** of the answer that are a mapping each are
/// moved as they are met, and what is left comes mapping by mapping. Where that is most, those with
/// something **dirty** under them come alone, and no line is looked for. Which way is better is
/// seen from a few runs now and then, and from the first batch of lines after them.
struct MappingWalk {
  /// Batches of mappings between two of runs.
  private static let otherBatchCount = 31
  /// Mappings that a look at whether they go on takes, as a part of a batch.
  private static let lookPart = 16

  private let window: IOVARange
  /// Where the next batch begins; nil when there is none.
  private(set) var from: IOVA?
  private var otherBatchesLeft = 0
  private var movesLines = false
  /// Mappings go on, as the last batch showed.
  private var hasRuns = false
  /// The batch is of mappings most of which have something dirty.
  private(set) var mappingsLead = false

  init(_ window: IOVARange) {
    self.window = window
    self.from = window.first
  }

  /// Reads so many mappings at most, and goes on after them next time.
  /// - Parameter move: moves lines out of the answer through mappings, and returns how many of
  ///   these may have something dirty left.
  /// - Returns: false when there is none left.
  mutating func next(
    _ table: borrowing MappingTable, under answer: inout QueryBitmap,
    into batch: inout [Mapping], countMax: Int,
    _ move: (inout QueryBitmap, Span<PackedMappings>) -> UInt64
  ) -> Bool {
    mappingsLead = otherBatchesLeft > 0
    guard mappingsLead else {
      let count = hasRuns ? countMax : max(1, countMax / Self.lookPart)
      guard let read = nextRuns(table, into: &batch, countMax: count) else { return false }
      hasRuns = batch.count <= read / 2
      if !hasRuns {
        otherBatchesLeft = Self.otherBatchCount
        movesLines = true
      }
      return true
    }
    guard let start = from else { return false }
    otherBatchesLeft -= 1
    batch.removeAll(keepingCapacity: true)
    var left = UInt64.max
    var (read, last): (Int, IOVA?) = (countMax, nil)
    if movesLines {
      left = 0
      (read, last) = table.withPacked(from: start, through: window.last, countMax: countMax) {
        left &+= move(&answer, $0)
      }
      movesLines = left <= UInt64(read) / 2
    }
    if left > 0 {
      let pageSize = answer.pageSize
      (read, last) = answer.withWords { words in
        table.copyDirty(
          from: start, through: window.last, into: &batch, countMax: countMax, under: words,
          window: window, pageSize: pageSize)
      }
    }
    goOn(after: last, isFull: read == countMax)
    return read > 0
  }

  /// The same, in runs only: for what has no answer.
  /// - Returns: how many mappings were read; nil when there is none left.
  mutating func nextRuns(
    _ table: borrowing MappingTable, into batch: inout [Mapping], countMax: Int
  ) -> Int? {
    guard let start = from else { return nil }
    batch.removeAll(keepingCapacity: true)
    let read = table.copyRuns(
      from: start, through: window.last, into: &batch, countMax: countMax)
    goOn(after: batch.last?.iova.last, isFull: read == countMax)
    return read > 0 ? read : nil
  }

  private mutating func goOn(after last: IOVA?, isFull: Bool) {
    from = nil
    if isFull, let last, last < window.last { from = last.advanced(byBytes: 1) }
  }
}
