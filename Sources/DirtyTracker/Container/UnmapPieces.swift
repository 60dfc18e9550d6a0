import Addressing
import IOVAMapping
import Locking

/// An unmap of a range that may hold any number of mappings, a piece at a time.
///
/// What was mapped after the unmap began stays: another vCPU may map in the range between two
/// pieces, and its mapping is not what the guest wanted gone.
struct UnmapPieces: Sendable {
  /// Mappings of one piece.
  static let mappingCountMax = 4096

  let last: IOVA
  /// Where the next piece begins; nil when there is none.
  fileprivate(set) var from: IOVA?
  /// The table as it was when the unmap began.
  fileprivate var newest: Generation?

  init(_ range: IOVARange) {
    from = range.first
    last = range.last
  }

  /// A range that cannot hold more mappings than one piece.
  static func isOne(_ range: IOVARange) -> Bool {
    range.lastOffset < UInt64(mappingCountMax) * 4096
  }

  mutating func end() { from = nil }
}

extension ContainerState {
  /// The next piece: as many of the old mappings as it may hold, and none that is newer.
  /// - Returns: nil when there is none left.
  mutating func next(_ pieces: inout UnmapPieces) -> IOVARange? {
    while let from = pieces.from {
      let last = pieces.last
      let begun = pieces.newest
      let (piece, newest) = context.book.withLock { (book: inout ContainerBook) in
        let newest = begun ?? book.table.generation
        let piece = book.table.piece(
          from: from, through: last, countMax: UnmapPieces.mappingCountMax, notAfter: newest)
        return (piece, newest)
      }
      pieces.newest = newest
      pieces.from = piece.next
      if let hull = piece.hull { return hull }
    }
    return nil
  }
}
