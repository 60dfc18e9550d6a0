import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

extension ContainerState {
  /// Asks one log about everything mapped writable in `range`, which is about to be unmapped, or
  /// was, and credits the answers. What cannot be asked for, or is not answered, is marked.
  mutating func queryUnmapped(log index: Int, in range: IOVARange, clear: Bool = true) {
    let tracked = logs[index]
    let plan = QueryPlan(tracked.capabilities, pageSize: tracked.pageSize)
    var steps: [QueryPlan.Step] = []
    context.book.withLock { (book: inout ContainerBook) in
      plan.forEach(book.table, in: range, logged: tracked.ranges) { steps.append($0) }
    }
    for step in steps {
      switch step {
      case .unqueryable(let part, let reason):
        guard reason != .notLogged || !settings.omitting.contains(.rearm) else { continue }
        if reason != .notLogged { noteUnqueryable(tracked, part, reason) }
        assumeWritten(in: part, .report(.conservative(id)))
      case .window(let window):
        if !ask(log: index, window, .report(.unmap(id)), clear: clear) {
          assumeWritten(in: window, .report(.conservative(id)))
        }
      }
    }
  }

  mutating func noteUnqueryable(
    _ tracked: TrackedLog, _ part: IOVARange, _ reason: QueryPlan.Reason
  ) {
    notes.append("\(name): \(tracked.log.name) cannot be asked for IOVA \(part): \(reason)")
  }

  /// One query and the scatter of its answer.
  /// - Returns: false when there is no answer: the caller marks the window, or owes it. What the
  ///   query took out of the log before it failed is lost to the backend.
  mutating func ask(
    log index: Int, _ window: IOVARange, _ fate: DirtyFate, clear: Bool = true
  ) -> Bool {
    let tracked = logs[index]
    guard prepareBitmap(window, tracked.pageSize) else { return false }
    counts.mappingCalls &+= 1
    do throws(ContainerError) {
      try tracked.log.query(&bitmap, clear: clear)
      answered(.query, log: index)
      countUnknown(granule: tracked.capabilities.granule.size(startedWith: tracked.pageSize))
      scatter(fate)
      return true
    } catch {
      answered(.query, log: index, range: window, error: error)
      notes.append("\(error); everything mapped writable there is marked dirty")
      if let refused = logs[index].noteFailure(window) {
        notes.append(
          "\(name): \(tracked.log.name) has failed twice for IOVA \(refused), which counts as"
            + " written from now on; its other ranges stay exact")
      }
      return false
    }
  }
}
