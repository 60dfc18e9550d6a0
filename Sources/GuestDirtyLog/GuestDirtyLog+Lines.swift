package import Addressing
package import PageBitmap
import Locking

extension GuestDirtyLog {
  /// Moves lines of a query's answer into the log: what it has dirty under writable mappings of 512
  /// pages that begin at a multiple of as many in the log. They are clear in the answer after.
  ///
  /// - Parameter leaves: mappings in IOVA order, none overlapping another; few enough for one hold
  ///   of a region's lock.
  /// - Returns: as dirty pages those that reached RAM; and how many mappings may have something
  ///   dirty left, which is for a scatter.
  package func moveLines(
    _ query: inout QueryBitmap, through leaves: Span<PackedMappings>, by source: DirtySource,
    at place: JournalPlace
  ) -> (count: MarkCount, leftCount: UInt64) {
    moveLines(&query, leaves, into: .log(source), at: place)
  }

  /// As ``moveLines(_:through:by:at:)``, for pages that are held back.
  package func moveLinesToHeldBack(
    _ query: inout QueryBitmap, through leaves: Span<PackedMappings>, for holder: HolderID
  ) -> (count: MarkCount, leftCount: UInt64) {
    moveLines(&query, leaves, into: .heldBack(holder), at: .none)
  }

  private func moveLines(
    _ query: inout QueryBitmap, _ leaves: Span<PackedMappings>, into target: Target,
    at place: JournalPlace
  ) -> (count: MarkCount, leftCount: UInt64) {
    var count = MarkCount()
    var left = leaves.indices.reduce(0) { $0 &+ leaves[$1].count }
    guard query.pageSize == pageSize else { return (count, left) }
    for region in directory.withLock({ $0.regions }) where left > 0 {
      if let moved = region.moveLines(&query, leaves, into: target, at: place, &count) {
        left = moved
      }
    }
    return (count, left)
  }
}

extension RegionLog {
  /// - Returns: how many mappings may have something dirty left; nil when nothing was looked at.
  fileprivate func moveLines(
    _ query: inout QueryBitmap, _ leaves: Span<PackedMappings>, into target: GuestDirtyLog.Target,
    at place: JournalPlace, _ count: inout MarkCount
  ) -> UInt64? {
    withState { state in
      // What is not here any more, or reaches nobody, is left to the scatter, which counts it.
      if state.isGone || state.shares.isEmpty || !state.copied.isEmpty { return nil }
      // So is what has to be written down page by page.
      if place < state.lastOrdered, !limits.omitsOrder { return nil }
      switch target {
      case .log(let source):
        let moved = state.main.moveLines(from: &query, through: leaves, gpaFirst: region.gpa.first)
        state.counts.add(moved.count.newlyDirtyPages, by: source)
        count.dirtyPages &+= moved.count.dirtyPages
        count.newlyDirtyPages &+= moved.count.newlyDirtyPages
        return moved.leftCount
      case .heldBack(let holder):
        guard let next = state.heldNext(of: holder) else { return nil }
        let moved = next.bits.moveLines(
          from: &query, through: leaves, gpaFirst: region.gpa.first)
        count.dirtyPages &+= moved.count.dirtyPages
        return moved.leftCount
      }
    }
  }
}
