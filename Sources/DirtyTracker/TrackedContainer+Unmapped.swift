import Addressing
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

extension TrackedContainer {
  /// The VMM has unmapped `range` of a container it owns. The bitmap answers for its window; for
  /// the rest of the range nothing is known.
  func unmapped(
    _ op: inout ContainerOperation, _ range: IOVARange, _ dirty: borrowing QueryBitmap
  ) throws(TrackerError) {
    guard !performsCalls else { throw .notOwnedByVMM(container: name, range) }
    let range = range.expanded(to: pageSize)
    let isUsed = op.isTracking && !settings.omitting.contains(.unmap)
    guard isUsed, let window = dirty.window, let answered = window.intersection(range) else {
      return try unmap(&op, range)
    }
    var walk = MappingWalk(answered)
    while nextRuns(&op, &walk) {
      let count = log.scatter(dirty, through: op.mappings.span, by: .unmap(id))
      op.count += count
    }
    if range.first < answered.first {
      let before = AddressRange(first: range.first, last: IOVA(answered.first.rawValue &- 1))
      assumeWritten(&op, in: before, .report(.conservative(id)))
    }
    if range.last > answered.last {
      let after = AddressRange(first: IOVA(answered.last.rawValue &+ 1), last: range.last)
      assumeWritten(&op, in: after, .report(.conservative(id)))
    }
    // The bitmap is the container's own; logs of devices, and devices without one, add to it.
    collectAfter(&op, in: answered, isWatched: true)
    try removeUnmapped(&op, range)
  }
}
