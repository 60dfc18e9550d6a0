import Addressing
import EventTrace
package import GuestDirtyLog
import Locking

/// Courses begun and moved on by hand, one step a call: for a replay, whose record says what was
/// done when, and for tests, which do other things between two steps.
///
/// Whoever steps by hand is the only one who has courses: the lock that orders them is not taken.
extension DirtyTracker {
  package func beginStart(_ id: ContainerID) {
    change(id) { state in
      state.begin(.startBegan(container: id.rawValue, paysOwed: false))
      state.beginStart()
    }
  }

  package func beginSync(_ id: ContainerID, _ request: SyncRequest) {
    change(id) { state in
      state.begin(
        .syncBegan(
          container: id.rawValue, range: request.range, isFinal: request.isFinal,
          asks: request.asks))
      state.beginSync(request)
    }
  }

  package func beginStop(_ id: ContainerID) { change(id) { beginStop(&$0) } }

  package func endCourse(_ id: ContainerID) {
    change(id) { state in
      state.begin(.courseEnded(container: id.rawValue))
      state.endCourse()
    }
  }

  /// The container's logs are others now.
  package func beginAttachment(_ id: ContainerID) {
    change(id) { state in
      state.begin(describedBy: TrackerEvent.attachmentChanged)
      state.attachmentChanged()
    }
  }

  /// - Returns: true while the course has more steps.
  package func step(_ id: ContainerID, _ bounds: StepBounds) -> Bool {
    var isDone = true
    change(id) { isDone = recordedStep(&$0, bounds).isDone }
    return !isDone
  }

  /// What the container has to report since it was last asked.
  package func takeReport(_ id: ContainerID) -> SyncReport {
    var report = SyncReport()
    change(id) { $0.takeShare(into: &report) }
    return report
  }

  package func setTracking(_ isTracking: Bool) {
    control.withLock { control in
      record(isTracking ? .globalLogStarted : .globalLogStopped)
      control.isTracking = isTracking
    }
  }

  func change(_ id: ContainerID, _ body: (inout ContainerState) -> Void) {
    // One that is not there was refused, or removed, in the record too.
    guard let tracked = try? container(id) else { return }
    tracked.operation.withStep { (state: inout ContainerState) in
      if !state.isRemoved { body(&state) }
    }
  }
}
