public import Addressing

/// What an unmap of a range is about, found by one search: which mappings go, which parts stay, and
/// whether the table has room. Whoever unmaps decides by it, calls its backend, and hands it back
/// to `MappingTable.unmap`, which does not search again.
///
/// For three mappings and a range from the middle of the first to the middle of the last:
///
///     mapped   [====A====]    [=B=]    [=====C=====]
///     range         <----------------------->
///     hull          |-----------------------|          first to last mapped byte in the range
///     uncut    |-----------------------------------|   the same, its mappings whole
///     left     [===]
///     right                                  [=====]   both stay, as old as they were
///
/// It is true until the table changes.
public struct MappingCut: Hashable, Sendable {
  /// The range that was asked for.
  public let range: IOVARange
  /// The first and the last mapping that overlap the range, whole; often the same.
  public let first: Mapping
  public let last: Mapping
  /// Why the table would not do it; nil when it would.
  public let refusal: MappingError?

  /// The place of `first`, and the generation of the table it is true of.
  let start: MappingTable.Place
  let generation: Generation

  /// From the first mapped byte in the range to the last.
  public var hull: IOVARange {
    AddressRange(
      first: max(first.iova.first, range.first), last: min(last.iova.last, range.last))
  }

  /// The hull with the mappings at its ends whole: what a backend unmaps that refuses cuts.
  public var uncut: IOVARange {
    AddressRange(first: first.iova.first, last: last.iova.last)
  }

  /// One mapping overlaps the range.
  public var isOne: Bool { first.iova.first == last.iova.first }

  /// A part of a mapping stays.
  public var isCut: Bool { first.iova.first < range.first || last.iova.last > range.last }

  /// The mapping that goes, when it is one and all of it: the usual case.
  public var onlyMapping: Mapping? { isOne && !isCut ? first : nil }

  /// What stays of the first mapping, before the range.
  public var left: Mapping? {
    guard first.iova.first < range.first else { return nil }
    return first.clipped(
      to: AddressRange(first: first.iova.first, last: IOVA(range.first.rawValue &- 1)))
  }

  /// What stays of the last mapping, after the range.
  public var right: Mapping? {
    guard last.iova.last > range.last else { return nil }
    return last.clipped(
      to: AddressRange(first: IOVA(range.last.rawValue &+ 1), last: last.iova.last))
  }

  /// How many mappings the table holds more after it: one where the middle of a mapping is cut out,
  /// else none.
  public var addedMappingCount: Int { isOne && left != nil && right != nil ? 1 : 0 }
}
