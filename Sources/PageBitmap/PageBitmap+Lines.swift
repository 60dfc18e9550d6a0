package import Addressing

/// What a move of lines did.
package struct MovedLines {
  package var count = ScatterCount()
  /// Mappings under which something dirty may be left: those that are not one line of both, and
  /// those whose GPA lies elsewhere.
  package var leftCount: UInt64 = 0
  package init() {}
}

extension PageBitmap {
  /// Moves lines out of the answer of a query: what it has dirty under writable mappings of one
  /// line (512 pages) of both, 2 MiB for pages of 4 KiB. What is moved is clear in the answer
  /// after; everything else stays, for a scatter.
  ///
  /// - Parameters:
  ///   - leaves: in IOVA order, none overlapping another.
  ///   - gpaFirst: the GPA of this bitmap's first page.
  /// - Precondition: query and bitmap have the same page size, which the GPA is a multiple of.
  package mutating func moveLines(
    from query: inout QueryBitmap, through leaves: Span<PackedMappings>, gpaFirst: GPA
  ) -> MovedLines {
    precondition(
      query.pageSize == pageSize && gpaFirst.isAligned(to: pageSize),
      "the pages of query and bitmap are the same")
    guard let window = query.window, !leaves.isEmpty else { return MovedLines() }
    let moved = storage.moveLines(
      from: &query.storage, window, pageSize, through: leaves, gpaFirst: gpaFirst)
    dirtyCount &+= moved.count.newlyDirtyPages
    return moved
  }
}
