public import Addressing
import EventTrace
import GuestDirtyLog
import Locking

extension DirtyTracker {
  /// The guest gave RAM back (virtio-mem, a balloon): identity containers no longer map it. Its
  /// content is lost, which is a change: the pages are marked dirty.
  ///
  /// Guest mappings to it stay: a guest may map what it has given back, and has to unmap it itself.
  public func ramDiscarded(_ range: GPARange) throws(TrackerError) {
    try control.withLock { (_) throws(TrackerError) in
      let whole = range.expanded(to: policy.pageSize)
      record(.ramDiscarded(whole))
      let forgotten = settings.memory.discard(whole)
      if let forgotten {
        note(
          "GPA \(forgotten) has been given back and counts as populated: more ranges than"
            + " \(Limits.discardedRangeCountMax) are not kept")
      }
      log.mark(whole, by: .conservative(nil))
      try unmapIdentity(whole)
    }
  }

  /// The guest has taken RAM again: identity containers map it.
  /// - Throws: what of the range was discarded counts as discarded still.
  public func ramPopulated(_ range: GPARange) throws(TrackerError) {
    try control.withLock { (_) throws(TrackerError) in
      let whole = range.expanded(to: policy.pageSize)
      let discarded = settings.memory.discarded.compactMap { $0.intersection(whole) }
      record(.ramPopulated(whole))
      settings.memory.populate(whole)
      log.mark(whole, by: .conservative(nil))
      do throws(TrackerError) {
        try forEachIdentity { tracked throws(TrackerError) in try mapRAM(tracked, in: whole) }
      } catch {
        for part in discarded {
          record(.ramDiscarded(part))
          settings.memory.discard(part)
        }
        throw error
      }
    }
  }
}
