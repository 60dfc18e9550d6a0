import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

/// The steps of a sync, see ``ContainerCourse``.
extension ContainerState {
  mutating func step(_ sync: SyncCourse, _ bounds: StepBounds) -> StepResult {
    var sync = sync
    var result = StepResult()
    switch sync.phase {
    case .ask(let index, let from):
      result.askedByteCount = askNext(&sync, log: index, from: from, bounds)
    case .holdBack(let part, let log, let from):
      let next = assumeWrittenPiece(from: part.first, through: part.last, .holdBack, bounds)
      sync.phase =
        next.map { .holdBack(AddressRange(first: $0, last: part.last), log: log, next: from) }
        ?? .ask(log: log, from: from)
    case .restart(let restart): step(restart, &sync, bounds)
    case .unwatched(let from):
      let fate = holdsBack(sync.request) ? DirtyFate.holdBack : .report(.conservative(id))
      let next = assumeWrittenPiece(from: from, through: sync.request.range.last, fate, bounds)
      sync.phase = next.map { .unwatched(from: $0) } ?? .payOwed
    case .payOwed:
      payOwed(bounds)
      if owed.isEmpty { sync.phase = .settle }
    case .settle:
      if let unknownMappings {
        counts.marked += log.markEverything(by: .conservative(id), at: place)
        notes.append("container \(name): \(unknownMappings); every page is marked dirty")
      }
      if isTracking, sync.request.range == .wholeSpace, let walk = settling(sync.request) {
        sync.phase = .release(walk)
      } else {
        result.isDone = true
      }
    case .release(var walk):
      release(&walk, by: .deviceQuery(id), bounds)
      sync.phase = .release(walk)
      result.isDone = walk.isDone
    }
    course = .sync(sync)
    return result
  }

  private func holdsBack(_ request: SyncRequest) -> Bool {
    settings.policy.pinnedPages != .everyRound
      && (!request.isFinal || settings.omitting.contains(.pinned))
  }

  /// - Returns: bytes of bitmap asked for.
  private mutating func askNext(
    _ sync: inout SyncCourse, log index: Int, from: IOVA?, _ bounds: StepBounds
  ) -> UInt64 {
    guard index < logs.count else {
      sync.phase = isEverythingMapped ? .unwatched(from: sync.request.range.first) : .payOwed
      return 0
    }
    let tracked = logs[index]
    let isPinned = tracked.capabilities.scope == .pinned
    guard let from, tracked.mode == .logging, sync.request.asks || isPinned else {
      finishLog(&sync, index)
      return 0
    }
    let plan = QueryPlan(tracked.capabilities, pageSize: tracked.pageSize)
    let last = sync.request.range.last
    let first = context.book.withLock { (book: inout ContainerBook) in
      plan.firstStep(
        book.table, from: from, through: last, logged: tracked.ranges,
        bitmapByteCountTarget: bounds.windowByteCountMax, mappingCountMax: bounds.mappingCountMax)
    }
    var asked: UInt64 = 0
    sync.phase = .ask(log: index, from: first.next)
    switch first.step {
    case .window(let window)?:
      asked = UInt64(QueryBitmap.byteCount(window: window, pageSize: tracked.pageSize) ?? 0)
      let fate =
        isPinned && holdsBack(sync.request) ? DirtyFate.holdBack : .report(.deviceQuery(id))
      if !ask(log: index, window, fate) { owed.add(window) }
    case .unqueryable(let part, let reason)?:
      markUnqueryable(&sync, tracked, part, reason)
    case nil: break
    }
    return asked
  }

  private mutating func markUnqueryable(
    _ sync: inout SyncCourse, _ tracked: TrackedLog, _ part: IOVARange, _ reason: QueryPlan.Reason
  ) {
    if reason == .notLogged {
      if settings.omitting.contains(.rearm) { return }
      // A mapping made since the log was started, unless the log has refused it.
      if !tracked.refused.contains(where: { $0.overlaps(part) }) {
        sync.unloggedPages &+= part.pageCount(settings.policy.pageSize)
      }
    } else {
      noteUnqueryable(tracked, part, reason)
    }
    if holdsBack(sync.request), case .ask(let log, let next) = sync.phase {
      sync.phase = .holdBack(part, log: log, next: next)
    } else {
      owed.add(part)
    }
  }

  /// Restarts a log whose answers are in doubt, or that misses too much of what is mapped.
  private mutating func finishLog(_ sync: inout SyncCourse, _ index: Int) {
    let tracked = logs[index]
    let unlogged = sync.unloggedPages
    sync.goOn(after: index)
    if sync.request.isFinal { return }
    guard tracked.restartWait == 0 else {
      logs[index].restartWait &-= 1
      return
    }
    guard let reason = restartReason(tracked, unlogged) else { return }
    // Each restart makes everything mapped dirty, so they come at ever longer intervals.
    logs[index].restartWait = tracked.restartInterval
    logs[index].restartInterval = min(tracked.restartInterval * 2, TrackedLog.restartIntervalMax)
    sync.phase = .restart(LogRestart(log: index, reason: reason))
  }

  /// Why a log should be restarted, whether its turn has come or not.
  private func restartReason(_ tracked: TrackedLog, _ unloggedPages: UInt64) -> String? {
    if settings.omitting.contains(.rearm) { return nil }
    switch tracked.mode {
    case .logging:
      guard tracked.hasFixedRanges else { return nil }
      if tracked.needsRestart { return "a query failed" }
      return unloggedPages > settings.policy.rearmPageCount
        ? "\(unloggedPages) pages are mapped outside its logged ranges" : nil
    case .everythingMapped:
      // A log that did not start, or may be running still, is tried again.
      let mayWalk = tracked.capabilities.mayCrossHoles || !hasPartialUnmap
      return tracked.canLog && mayWalk ? "it did not start before" : nil
    case .stopped, .waiting: return nil
    }
  }

  private mutating func step(
    _ restart: LogRestart, _ sync: inout SyncCourse, _ bounds: StepBounds
  ) {
    var restart = restart
    switch restart.stage {
    case .stop:
      // Before the stop, so that it is owed whatever comes between two steps.
      if settings.pace.planted != .restartOwesNothing { owed.add(.wholeSpace) }
      stopLog(restart.log)
      restart.stage = .start
    case .start:
      beginLogStart(restart.log)
      restart.stage = .pay
    case .pay:
      payOwed(bounds)
      // With all of it marked there is nothing to hold back until the next sync.
      if owed.isEmpty { restart.stage = .release(HeldBackWalk(releasesAll: true)) }
    case .release(var walk):
      release(&walk, by: .conservative(id), bounds)
      restart.stage = .release(walk)
      if walk.isDone {
        notes.append(
          "\(name): \(logs[restart.log].log.name) was restarted: \(restart.reason);"
            + " everything mapped writable is marked dirty")
        publish()
        return sync.goOn(after: restart.log)
      }
    }
    sync.phase = .restart(restart)
  }

  /// How held-back pages are settled; nil when they are forgotten on purpose.
  private func settling(_ request: SyncRequest) -> HeldBackWalk? {
    if request.isFinal, settings.omitting.contains(.pinned) {
      log.dropHeldBack(for: holder)
      return nil
    }
    return HeldBackWalk(
      releasesAll: request.isFinal || settings.policy.pinnedPages == .everyRound)
  }
}

extension SyncCourse {
  /// The next log is asked from the beginning of the range.
  fileprivate mutating func goOn(after log: Int) {
    phase = .ask(log: log + 1, from: request.range.first)
    unloggedPages = 0
  }
}
