import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking

/// Courses: begun, moved on by one step at a time, taken away.
///
/// A step is one call to a backend with the scatter of its answer, or one bounded piece of a walk.
/// Between two steps others map and unmap. Nothing is lost by that:
/// - What was unmapped meanwhile brought its dirt itself, see ``unmap(_:)``.
/// - What was mapped behind the place of a sync is the next sync's. In the final one, after which
///   there is none, a map marks its writable pages.
/// - A range that a step makes dirty is written down as owed in that step; an unmap, cut or remap
///   inside it pays first, see ``OwedMarks``.
/// - A log that gives up while a sync runs (half an unmap) leaves everything mapped writable to the
///   phase that comes after all logs.
extension ContainerState {
  /// Begins to start every log from clean.
  /// - Parameter paysOwed: its devices may have written already what a reader has seen as clean.
  mutating func beginStart(paysOwed: Bool = false) {
    guard !isTracking else {
      notes.append("\(name): its dirty logs are started already")
      return
    }
    isTracking = true
    capabilities = context.backend.capabilities
    if context.book.withLock({ (book: inout ContainerBook) in book.table.count }) == 0 {
      hasPartialUnmap = false
    }
    logs = context.backend.dirtyLogs.map {
      TrackedLog($0, preferred: settings.policy.pageSize, succeeding: logs)
    }
    // Until they all run, what goes away counts as written.
    owed.add(.wholeSpace)
    course = .start(StartCourse(paysOwed: paysOwed))
    if logs.isEmpty {
      notes.append("\(name) has no dirty log: everything it maps writable counts as written")
    }
    publish()
  }

  mutating func beginSync(_ request: SyncRequest) {
    var sync = SyncCourse(request)
    if !isTracking {
      owed.add(.wholeSpace)
      notes.append("\(name) is not tracked: everything it maps writable is marked dirty")
      sync.phase = .payOwed
    }
    course = .sync(sync)
  }

  /// Unread dirt is given up. For readers that stay, what is mapped writable is dirty.
  mutating func beginStop(_ purpose: TraceStop) {
    // A log that did not stop before is stopped again when its container goes.
    guard isTracking || purpose.isRemoval else { return }
    if purpose.marksForReaders { owed.add(.wholeSpace) }
    course = .stop(StopCourse(purpose: purpose))
  }

  /// Ends a course at a step. What it owed stays owed.
  mutating func endCourse() {
    course = nil
    collection = nil
  }

  /// One step of the course under way.
  mutating func step(_ bounds: StepBounds) -> StepResult {
    let callsBefore = counts.mappingCalls
    defer {
      counts.courseCalls &+= counts.mappingCalls &- callsBefore
      counts.mappingCalls = callsBefore
    }
    var result = StepResult()
    if collection != nil {
      startCollected(bounds)
      return result
    }
    switch course {
    case .start(let start)?: result.isDone = step(start, bounds)
    case .sync(let sync)?: result = step(sync, bounds)
    case .stop(let stop)?: result.isDone = step(stop, bounds)
    case nil: result.isDone = true
    }
    if result.isDone { endCourse() }
    return result
  }

  private mutating func step(_ start: StartCourse, _ bounds: StepBounds) -> Bool {
    if let next = logs.firstIndex(where: { $0.mode == .waiting }) {
      beginLogStart(next)
      return false
    }
    if start.paysOwed, !owed.isEmpty {
      payOwed(bounds)
      return false
    }
    owed.forgive()
    publish()
    return true
  }

  /// One piece of a settling or release of what is held back.
  mutating func release(
    _ walk: inout HeldBackWalk, by source: DirtySource, _ bounds: StepBounds
  ) {
    // A block of bits has 32,768 pages. Nobody waits for the final sync, and all of it at once may
    // be done by the memory nodes side by side.
    let blocks = isInFinalSync ? Int.max : Int(clamping: max(1, bounds.pageCountMax >> 15))
    counts.marked += log.goOn(
      &walk, blockCountMax: blocks, for: holder, by: source, at: place)
  }

  private mutating func step(_ stop: StopCourse, _ bounds: StepBounds) -> Bool {
    if stop.log < logs.count {
      stopLog(stop.log)
      var next = stop
      next.log += 1
      course = .stop(next)
      return false
    }
    if stop.purpose.marksForReaders, !owed.isEmpty {
      payOwed(bounds)
      return false
    }
    if stop.purpose.marksForReaders {
      let source = stop.purpose.isRemoval ? DirtySource.unmap(id) : .conservative(id)
      var walk = stop.release ?? HeldBackWalk(releasesAll: true)
      release(&walk, by: source, bounds)
      guard walk.isDone else {
        var next = stop
        next.release = walk
        course = .stop(next)
        return false
      }
      if !stop.purpose.isRemoval {
        notes.append(
          "\(name): tracking has stopped while the dirty log has readers: everything mapped"
            + " writable is marked dirty for them, and later writes of its devices are not seen")
      }
    } else {
      log.dropHeldBack(for: holder)
    }
    owed.forgive()
    isTracking = false
    publish()
    return true
  }
}
