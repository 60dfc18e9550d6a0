import Addressing
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

extension ContainerState {
  /// The VMM has unmapped `range` of a container it owns. The bitmap answers for its window; for
  /// the rest of the range nothing is known.
  mutating func unmapped(
    _ range: IOVARange, _ dirty: borrowing QueryBitmap
  ) throws(TrackerError) {
    guard !context.performsCalls else { throw .notOwnedByVMM(container: name, range) }
    let range = range.expanded(to: pageSize)
    let isUsed = isTracking && !settings.omitting.contains(.unmap)
    guard isUsed, let window = dirty.window, let answered = window.intersection(range) else {
      return try unmap(range)
    }
    let found = context.book.withLock { (book: inout ContainerBook) in book.table.cut(range) }
    if let found, let only = found.onlyMapping, only.iova == answered, answered == range {
      return unmapped(found, only, dirty)
    }
    countUnknown(in: dirty, unmapped: answered)
    var walk = MappingWalk(answered)
    while nextRuns(&walk) {
      let found = log.scatter(dirty, through: mappings.span, by: .unmap(id), at: place)
      counts.marked += found
    }
    if range.first < answered.first {
      let before = AddressRange(first: range.first, last: IOVA(answered.first.rawValue &- 1))
      assumeWritten(in: before, .report(.conservative(id)))
    }
    if range.last > answered.last {
      let after = AddressRange(first: IOVA(answered.last.rawValue &+ 1), last: range.last)
      assumeWritten(in: after, .report(.conservative(id)))
    }
    // The bitmap is the container's own; logs of devices, and devices without one, add to it.
    collectAfter(in: answered, isWatched: true)
    try removeUnmapped(range)
  }

  /// One mapping and all of it, and a bitmap for just that: searched for once.
  private mutating func unmapped(
    _ cut: MappingCut, _ only: Mapping, _ dirty: borrowing QueryBitmap
  ) {
    let credit = UnmapCredit(log: log, id: id, place: place)
    counts.marked += credit.give(dirty, through: only, &mappings)
    collectAfter(in: only.iova, isWatched: true, only)
    removeOnly(cut, only)
  }

  /// The next mappings of the walk, unclipped; adjacent ones as one.
  private mutating func nextRuns(_ walk: inout MappingWalk) -> Bool {
    context.book.withLock { (book: inout ContainerBook) in
      walk.nextRuns(book.table, into: &mappings, countMax: Self.mappingBatchCount) != nil
    }
  }
}
