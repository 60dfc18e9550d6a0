import Locking

/// What is known of one device in the course of a migration: readable from any thread, written by
/// the one that drives the device.
final class DeviceCourse: Sendable {
  private struct Known {
    var state: DeviceState
    var observed: [DeviceState]
    /// The device said that its state has been given, in this stop-and-copy.
    var hasEnded = false
    /// RESUMING was entered and the device was not told to run, or reset, since: what it holds is
    /// the source's.
    var isLoaded = false
  }

  private let known: Mutex<Known>

  init(state: DeviceState) {
    known = Mutex(Known(state: state, observed: [state]))
  }

  var state: DeviceState { known.withLock { $0.state } }
  var observedStates: [DeviceState] { known.withLock { $0.observed } }

  var hasEnded: Bool {
    get { known.withLock { $0.hasEnded } }
    set { known.withLock { $0.hasEnded = newValue } }
  }

  var isLoaded: Bool { known.withLock { $0.isLoaded } }

  /// A migration begins: forgets what was before.
  func begin() {
    known.withLock {
      $0.observed = [$0.state]
      $0.hasEnded = false
      $0.isLoaded = false
    }
  }

  /// What the device holds is its own: it was told to run and did, or was reset.
  func owned() { known.withLock { $0.isLoaded = false } }

  /// The device is in the last of `states` and went through the others in order.
  func passed(_ states: [DeviceState]) {
    known.withLock {
      for state in states {
        if $0.observed.last != state { $0.observed.append(state) }
        $0.state = state
        if state == .resuming { $0.isLoaded = true }
        if state != .stopCopy { $0.hasEnded = false }
      }
    }
  }
}
