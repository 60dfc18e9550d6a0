import Addressing
import IOVAMapping
import PageBitmap

/// The walk of a table under an answer, in batches, by one of two ways.
///
/// In **runs**, what goes on in IOVA and GPA comes as one: few, and the answer's bits lead from one
/// to the next. Where mappings do not go on, those with something **dirty** under them come alone.
/// Which way is better is seen from a batch of runs now and then.
struct MappingWalk {
  /// Batches of dirty mappings between two of runs.
  private static let dirtyBatchCount = 31

  private let window: IOVARange
  private var from: IOVA?
  private var dirtyBatchesLeft = 0
  /// The batch was of dirty mappings.
  private(set) var mappingsLead = false

  init(_ window: IOVARange) {
    self.window = window
    self.from = window.first
  }

  /// Reads so many mappings at most, and goes on after them next time.
  /// - Returns: false when there is none left.
  mutating func next(
    _ table: borrowing MappingTable, under answer: borrowing QueryBitmap,
    into batch: inout [Mapping], countMax: Int
  ) -> Bool {
    mappingsLead = dirtyBatchesLeft > 0
    guard mappingsLead else {
      guard let read = nextRuns(table, into: &batch, countMax: countMax) else { return false }
      if batch.count > read / 2 { dirtyBatchesLeft = Self.dirtyBatchCount }
      return true
    }
    guard let start = from else { return false }
    dirtyBatchesLeft -= 1
    batch.removeAll(keepingCapacity: true)
    let (read, last) = answer.withWords { words in
      table.copyDirty(
        from: start, through: window.last, into: &batch, countMax: countMax, under: words,
        window: window, pageSize: answer.pageSize)
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
