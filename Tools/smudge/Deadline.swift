import DeviceMigration
import Dispatch
import Locking

/// Shuts a channel down when something is not there in time. A timeout of the channel does not do
/// it: a peer that sends a byte now and then never meets one.
final class Deadline {
  private let timer: any DispatchSourceTimer
  private let passed: PassedFlag

  init(milliseconds: Int, _ channel: any ByteChannel) {
    let passed = PassedFlag()
    self.passed = passed
    timer = DispatchSource.makeTimerSource(queue: .global())
    timer.schedule(deadline: .now() + .milliseconds(milliseconds))
    timer.setEventHandler {
      passed.set()
      channel.shutDown()
    }
    timer.resume()
  }

  deinit { timer.cancel() }

  var hasPassed: Bool { passed.isSet }

  /// From here on it does nothing.
  func meet() { timer.cancel() }
}

/// Set once, from any thread.
final class PassedFlag: Sendable {
  private let value = Mutex(false)
  var isSet: Bool { value.withLock { $0 } }
  func set() { value.withLock { $0 = true } }
}
