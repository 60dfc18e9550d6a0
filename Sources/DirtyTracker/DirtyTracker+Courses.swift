import Addressing
import EventTrace
import GuestDirtyLog
import Locking

/// Courses of containers, run by the thread that asked for them.
extension DirtyTracker {
  /// Runs one course of a container, after the one that may be under way.
  /// - Parameter begin: records and begins the course; false when there is none to run.
  /// - Returns: false when it was taken away by a stop or a removal.
  @discardableResult
  func run(
    _ tracked: TrackedContainer, isFinal: Bool = false, into report: inout SyncReport,
    _ begin: (inout ContainerState) -> Bool
  ) -> Bool {
    var share = SyncReport()
    let isWhole = tracked.courses.withLock { (pace: inout sending WindowPace) -> Bool in
      drive(tracked, &pace, isFinal: false)
      let isBegun = tracked.operation.withStep { (state: inout ContainerState) in
        !state.isRemoved && begin(&state)
      }
      guard isBegun else { return true }
      let isWhole = drive(tracked, &pace, isFinal: isFinal)
      tracked.operation.withStep { (state: inout ContainerState) in state.takeShare(into: &share) }
      return isWhole
    }
    report.containers.append(contentsOf: share.containers)
    report.notes.append(contentsOf: share.notes)
    return isWhole
  }

  /// Steps until the course of the container is done. The caller holds `courses`.
  /// - Returns: false when it was taken away.
  @discardableResult
  func drive(_ tracked: TrackedContainer, _ pace: inout WindowPace, isFinal: Bool) -> Bool {
    let steps = settings.pace
    var backoff = StepBackoff()
    while true {
      let bounds =
        steps.fixedBounds
        ?? (isFinal ? .final : .running(windowByteCountMax: pace.windowByteCountMax))
      var began: UInt64 = 0
      let result = tracked.operation.withStep { (state: inout ContainerState) -> StepResult in
        began = steps.clock?() ?? 0
        return recordedStep(&state, bounds)
      }
      if result.isDone { return !result.wasTaken }
      let took = (steps.clock?() ?? 0) &- began
      if !isFinal { pace.learn(byteCount: result.askedByteCount, nanoseconds: took) }
      backoff.giveWay(tracked.operation, after: took, steps)
    }
  }

  /// One step, as an event.
  func recordedStep(_ state: inout ContainerState, _ bounds: StepBounds) -> StepResult {
    guard state.course != nil else { return StepResult(isDone: true, wasTaken: true) }
    let id = state.id.rawValue
    state.begin(
      .stepped(
        container: id, windowByteCountMax: bounds.windowByteCountMax,
        mappingCountMax: UInt64(bounds.mappingCountMax), pageCountMax: bounds.pageCountMax))
    return state.step(bounds)
  }

  /// Takes the course of a container away at its next step, for a stop or a removal.
  func endCourse(_ tracked: TrackedContainer) {
    tracked.operation.withLock { (state: inout ContainerState) in
      guard state.course != nil else { return }
      state.begin(.courseEnded(container: tracked.id.rawValue))
      state.endCourse()
    }
  }

  /// Whether the dirty log has readers is asked once: whoever comes while logs are being stopped
  /// sees none of what is marked for those who stay.
  func beginStop(_ state: inout ContainerState, isRemoval: Bool = false) {
    let stop = TraceStop(marksForReaders: log.hasConsumers, isRemoval: isRemoval)
    let id = state.id.rawValue
    state.begin(.stopBegan(container: id, stop))
    state.beginStop(stop)
  }
}
