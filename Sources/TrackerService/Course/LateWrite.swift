import Addressing
import DirtyTracker
import GuestDirtyLog
import Locking
import VhostUser

/// A write of a device that is to be looked up later: the way of a naive helper, which loses what
/// is mapped otherwise by then. Only with `--break late-lookup`, to prove that a test notices.
struct LateWrite: Sendable {
  let container: ContainerID
  let iova: IOVARange
}

extension VMCourse {
  func note(_ write: LateWrite) { late.withLock { $0.append(write) } }

  func lookUpLate() {
    let writes = late.withLock { late in
      defer { late = [] }
      return late
    }
    for write in writes {
      guard let mapping = tracker.lookup(write.container, write.iova.first),
        let first = mapping.translate(write.iova.first),
        let place = GPARange(first: first, byteCount: write.iova.lastOffset + 1)
      else { continue }
      markWherePossible(place)
    }
  }
}
