import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

extension TrackedContainer {
  /// Starts every log from clean.
  func start(_ op: inout ContainerOperation) {
    guard !op.isTracking else {
      op.notes.append("\(name): its dirty logs are started already")
      return
    }
    op.isTracking = true
    op.capabilities = backend.capabilities
    if book.withLock({ (book: inout ContainerBook) in book.table.count }) == 0 {
      op.hasPartialUnmap = false
    }
    op.logs = backend.dirtyLogs.map { TrackedLog($0, preferred: settings.policy.pageSize) }
    for index in op.logs.indices { start(&op, log: index) }
    if op.logs.isEmpty {
      op.notes.append("\(name) has no dirty log: everything it maps writable counts as written")
    }
    publish(op)
  }

  func start(_ op: inout ContainerOperation, log index: Int) {
    var tracked = op.logs[index]
    defer { op.logs[index] = tracked }
    tracked.needsRestart = false
    // There is nothing to ask it for.
    guard tracked.capabilities.scope != .everythingMapped else {
      tracked.mode = .everythingMapped
      return
    }
    guard tracked.capabilities.mayCrossHoles || !op.hasPartialUnmap else {
      // Its answers end at holes the table does not know of.
      degrade(&tracked)
      return
    }
    if let countMax = tracked.capabilities.rangeCountMax {
      let pageSize = tracked.pageSize
      tracked.ranges = book.withLock { (book: inout ContainerBook) in
        DeviceLogRanges(book.table, pageSize: pageSize, rangeCountMax: max(1, countMax)).ranges
      }
      // A log of nothing can not be started, and what is not logged is known to be so.
      guard !tracked.ranges.isEmpty else {
        tracked.mode = .logging
        return
      }
    }
    op.callCount &+= 1
    do throws(ContainerError) {
      try tracked.log.start(logging: tracked.ranges, pageSize: tracked.pageSize)
      tracked.mode = .logging
    } catch {
      answered(.startLog, log: index, error: error)
      degrade(&tracked)
      // It may have started all the same.
      tracked.stopQuietly()
      op.notes.append("\(error); everything \(name) maps writable counts as written instead")
    }
  }

  private func degrade(_ tracked: inout TrackedLog) {
    tracked.mode = .everythingMapped
    tracked.ranges = []
  }

  /// Unread dirt is given up.
  func stop(_ op: inout ContainerOperation) {
    guard op.isTracking else { return }
    op.isTracking = false
    for index in op.logs.indices { stop(&op, log: index) }
    log.dropHeldBack(for: id)
    publish(op)
  }

  /// - Returns: false when the log may be running still.
  @discardableResult
  func stop(_ op: inout ContainerOperation, log index: Int) -> Bool {
    let tracked = op.logs[index]
    op.logs[index].mode = .stopped
    op.logs[index].ranges = []
    let isIdle = tracked.hasFixedRanges && tracked.ranges.isEmpty
    guard tracked.mode == .logging, !isIdle else { return true }
    op.callCount &+= 1
    do throws(ContainerError) {
      try tracked.log.stop()
      return true
    } catch {
      answered(.stopLog, log: index, error: error)
      op.notes.append("\(error); its dirty log may be running still")
      return false
    }
  }

  /// Stops a log of fixed ranges and starts it with what is mapped writable now. Nobody watches in
  /// between, so all of that is marked, once the log runs again.
  func restart(_ op: inout ContainerOperation, log index: Int, because reason: String) {
    let hasStopped = stop(&op, log: index)
    if hasStopped {
      start(&op, log: index)
    } else {
      // A start might do nothing, and the log stay with its old ranges.
      degrade(&op.logs[index])
    }
    assumeWritten(&op, in: .wholeSpace, .report(.conservative(id)))
    // With all of it marked there is nothing to hold back until the next sync.
    let released = log.releaseHeldBack(for: id, by: .conservative(id))
    op.count += released
    op.notes.append(
      "\(name): \(op.logs[index].log.name) was started anew, \(reason);"
        + " everything mapped writable is marked dirty")
    publish(op)
  }

  /// Starts logs anew whose answers are in doubt, or that miss too much of what is mapped.
  func rearmIfNeeded(_ op: inout ContainerOperation, log index: Int) {
    let tracked = op.logs[index]
    guard tracked.mode == .logging, tracked.hasFixedRanges else { return }
    if tracked.needsRestart {
      return restart(&op, log: index, because: "because a query failed")
    }
    if tracked.rearmWait > 0 {
      op.logs[index].rearmWait &-= 1
      return
    }
    guard op.unloggedPages > settings.policy.rearmPageCount else { return }
    // Each one dirties everything mapped, so they come at ever longer intervals.
    op.logs[index].rearmInterval = min(tracked.rearmInterval * 2, 64)
    op.logs[index].rearmWait = tracked.rearmInterval
    let pages = op.unloggedPages
    restart(&op, log: index, because: "because \(pages) pages are mapped outside its ranges")
  }

  /// The container's devices, and so its logs, have changed.
  func attachmentChanged(_ op: inout ContainerOperation) {
    op.capabilities = backend.capabilities
    guard op.isTracking else { return }
    let old = op.logs
    op.logs = []
    for log in backend.dirtyLogs {
      if var same = old.first(where: { $0.log === log }) {
        // What a container's own log can tell depends on its devices too.
        let now = TrackedLog(log, preferred: settings.policy.pageSize)
        if same.capabilities == now.capabilities {
          op.logs.append(same)
          continue
        }
        if same.mode == .logging { same.stopQuietly() }
        op.logs.append(now)
        start(&op, log: op.logs.count - 1)
      } else {
        op.logs.append(TrackedLog(log, preferred: settings.policy.pageSize))
        start(&op, log: op.logs.count - 1)
      }
    }
    for var gone in old where gone.mode == .logging {
      if !op.logs.contains(where: { $0.log === gone.log }) { gone.stopQuietly() }
    }
    // A new device may have written before its log ran; a log that went took its dirt along.
    assumeWritten(&op, in: .wholeSpace, .report(.conservative(id)))
    publish(op)
  }
}
