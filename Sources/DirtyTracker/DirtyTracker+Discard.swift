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
    try taking(.ramDiscarded(range)) { () throws(TrackerError) -> Void in
      try control.withLock { (_) throws(TrackerError) in
        let whole = range.expanded(to: policy.pageSize)
        settings.memory.discard(whole)
        log.mark(whole, by: .conservative(nil))
        try unmapIdentity(whole)
      }
    }
  }

  /// The guest has taken RAM again: identity containers map it.
  /// - Throws: the range counts as discarded still.
  public func ramPopulated(_ range: GPARange) throws(TrackerError) {
    try taking(.ramPopulated(range)) { () throws(TrackerError) -> Void in
      try control.withLock { (_) throws(TrackerError) in
        let whole = range.expanded(to: policy.pageSize)
        settings.memory.populate(whole)
        log.mark(whole, by: .conservative(nil))
        do throws(TrackerError) {
          try forEachIdentity { (tracked, op: inout ContainerOperation) throws(TrackerError) in
            try tracked.mapRAM(&op, in: whole)
          }
        } catch {
          settings.memory.discard(whole)
          throw error
        }
      }
    }
  }
}
