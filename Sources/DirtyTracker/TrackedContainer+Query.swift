import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

/// How the answers of one log are used.
struct QueryUse {
  var fate: DirtyFate
  /// Take what is reported out of the log.
  var clear = true
  /// Pages that nobody watches are held back rather than reported.
  var holdsBackUnwatched = false
}

extension TrackedContainer {
  /// Asks one log about everything mapped writable in `range` and credits the answers. Whatever can
  /// not be asked for, or is not answered, counts as written.
  func query(
    _ op: inout ContainerOperation, log index: Int, in range: IOVARange, _ use: QueryUse
  ) {
    let tracked = op.logs[index]
    let plan = QueryPlan(tracked.capabilities, pageSize: tracked.pageSize)
    op.steps.removeAll(keepingCapacity: true)
    book.withLock { (book: inout ContainerBook) in
      plan.forEach(book.table, in: range, logged: tracked.ranges) { op.steps.append($0) }
    }
    var position = 0
    while position < op.steps.count {
      let step = op.steps[position]
      position &+= 1
      switch step {
      case .unqueryable(let part, .notLogged):
        guard !settings.omitting.contains(.rearm) else { continue }
        // A mapping made since the log was started.
        op.unloggedPages &+= part.pageCount(settings.policy.pageSize)
        assumeWritten(&op, in: part, holdBack: use.holdsBackUnwatched)
      case .unqueryable(let part, let reason):
        op.notes.append("\(name): \(tracked.log.name) can not be asked for IOVA \(part): \(reason)")
        assumeWritten(&op, in: part, holdBack: use.holdsBackUnwatched)
      case .window(let window):
        ask(&op, log: index, window, use)
      }
    }
  }

  private func ask(
    _ op: inout ContainerOperation, log index: Int, _ window: IOVARange, _ use: QueryUse
  ) {
    let tracked = op.logs[index]
    guard prepareBitmap(&op, window, tracked.pageSize) else {
      return assumeWritten(&op, in: window, .report(.conservative(id)))
    }
    op.callCount &+= 1
    do throws(ContainerError) {
      try tracked.log.query(&op.bitmap, clear: use.clear)
      answered(.query, log: index, op.bitmap)
      scatter(&op, use.fate)
    } catch {
      answered(.query, log: index, range: window, error: error)
      // What the query took out of the log before it failed is lost to the backend.
      assumeWritten(&op, in: window, .report(.conservative(id)))
      op.notes.append("\(error); everything mapped writable there is marked dirty")
      if tracked.hasFixedRanges { op.logs[index].needsRestart = true }
    }
  }
}
