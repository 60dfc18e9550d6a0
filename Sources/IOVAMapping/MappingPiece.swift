public import Addressing

/// A part of a long unmap or walk, with a bounded number of mappings.
public struct MappingPiece: Hashable, Sendable {
  /// From the first mapped byte to the last, no younger mapping among them; nil when there is none.
  public let hull: IOVARange?
  /// Mappings in the hull.
  public let mappingCount: Int
  /// Where the next piece begins; nil when this one was the last.
  public let next: IOVA?
}

extension MappingTable {
  /// The piece that begins at the first mapping from `from` on. It ends after `countMax` mappings,
  /// at `last`, or before a mapping that was made after `generation`; the next one begins after
  /// that. Younger mappings are looked at as well, and `countMax` bounds the two together: a piece
  /// may be empty and not the last.
  ///
  /// An unmap of a large range goes piece by piece with the table free for others in between, and
  /// removes what was mapped when it began:
  ///
  ///     let beginning = table.generation
  ///     var from: IOVA? = range.first
  ///     while let first = from {
  ///       let piece = table.piece(
  ///         from: first, through: range.last, countMax: 4096, notAfter: beginning)
  ///       if let hull = piece.hull { try table.unmap(hull) }
  ///       from = piece.next
  ///     }
  ///
  /// The parts that a cut keeps are as old as the mapping they were part of, so a cut between two
  /// pieces hides nothing from the unmap.
  ///
  /// - Precondition: `countMax > 0`.
  public func piece(
    from: IOVA, through last: IOVA, countMax: Int, notAfter generation: Generation
  ) -> MappingPiece {
    precondition(countMax > 0, "a piece has room for a mapping")
    var first: IOVA?
    var end = from
    var held = 0
    var seen = 0
    var place = place(endingAtOrAfter: from.rawValue)
    while let here = place, leaves[here.leaf].first(here.slot) <= last.rawValue {
      let leaf = leaves[here.leaf]
      let through = IOVA(leaf.last(here.slot))
      seen &+= 1
      let isYounger = leaf.generation(here.slot) > generation.rawValue
      if !isYounger {
        first = first ?? max(IOVA(leaf.first(here.slot)), from)
        end = min(through, last)
        held &+= 1
      }
      if seen == countMax || (isYounger && first != nil) {
        let next = through < last ? through.advanced(byBytes: 1) : nil
        return MappingPiece(
          hull: first.map { AddressRange(first: $0, last: end) }, mappingCount: held, next: next)
      }
      place = self.next(here)
    }
    return MappingPiece(
      hull: first.map { AddressRange(first: $0, last: end) }, mappingCount: held, next: nil)
  }
}
