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
    into batch: inout [Mapping],
    countMax: Int
  ) -> Bool {
    guard let start = from else { return false }
    batch.removeAll(keepingCapacity: true)
    mappingsLead = dirtyBatchesLeft > 0
    let read: Int
    let last: IOVA?
    if mappingsLead {
      dirtyBatchesLeft -= 1
      (read, last) = answer.withWords { words in
        table.copyDirty(
          from: start, through: window.last, into: &batch, countMax: countMax, under: words,
          window: window, pageSize: answer.pageSize)
      }
    } else {
      read = table.copyRuns(
        from: start, through: window.last, into: &batch, countMax: countMax)
      last = batch.last?.iova.last
      if batch.count > read / 2 { dirtyBatchesLeft = Self.dirtyBatchCount }
    }
    from = nil
    if read == countMax, let last, last < window.last { from = last.advanced(byBytes: 1) }
    return read > 0
  }
}
