public import Addressing
public import IOVAMapping

/// A plan one step at a time, over a table that may change between two steps.
///
/// `forEach` walks a whole table, for which its lock has to be held. A sync that lets others in
/// between its steps keeps only an IOVA, its place in the plan, and asks for the first step from
/// there on as the table stands now:
///
///     place = range.first
///     repeat: firstStep(table, from: place, through: range.last, ...)
///             ask and scatter its window, or mark its unqueryable range dirty
///             place = next, until that is nil
///
/// Invariants, beside those of the plan, which the steps of a table that does not change keep:
/// 1. `next` lies after the step, and nothing writable lies between them.
/// 2. A window may begin before `from`, where a mapping lies across it and may not be cut: the
///    table has changed, or `from` is the beginning of a range that cuts it.
/// 3. At most some more than `mappingCountMax` mappings are read. Where more would have to be, the
///    window ends, but holds at least one mapping, or a page of one.
extension QueryPlan {
  /// The first step of a sync of `from` to `last`.
  ///
  /// - Parameters:
  ///   - logged: as of ``forEach(_:in:logged:_:)``.
  ///   - bitmapByteCountTarget: no window gets a larger bitmap, unless one mapping that may not be
  ///     cut needs it.
  ///   - mappingCountMax: mappings to read; a leaf of even ones counts as one.
  public func firstStep(
    _ table: borrowing MappingTable, from: IOVA, through last: IOVA, logged: [IOVARange] = [],
    bitmapByteCountTarget: UInt64 = .max, mappingCountMax: Int
  ) -> FirstStep {
    guard from <= last else { return FirstStep(step: nil, next: nil) }
    var search = StepSearch(
      plan: self, range: AddressRange(first: from, last: last), logged: logged,
      gapByteCountMax: gapBitmapByteCountMax(mappingCount: table.count),
      bitmapByteCountTarget: min(bitmapByteCountTarget, bitmapByteCountMax),
      countLeft: max(1, mappingCountMax))
    return search.run(table)
  }
}
