import Dispatch
import Locking
import VhostUser

/// A delegate that writes down what it is told, and does in `stop` what a test wants.
final class RecordingDelegate: CompanionDelegate {
  private let heard = Mutex<[String]>([])
  private let onStop = Mutex<@Sendable () throws(VhostUserError) -> Void>({})
  private let onReplaced = Mutex<@Sendable () -> Void>({})
  private let gone = DispatchSemaphore(value: 0)
  private let reasons = Mutex<[VhostUserError]>([])

  /// What was told since the last call.
  func take() -> [String] {
    heard.withLock { (heard: inout [String]) -> [String] in
      defer { heard = [] }
      return heard
    }
  }

  func stopping(with body: @escaping @Sendable () throws(VhostUserError) -> Void) {
    onStop.withLock { $0 = body }
  }

  func replacing(with body: @escaping @Sendable () -> Void) { onReplaced.withLock { $0 = body } }

  /// Waits for the end of a connection.
  /// - Returns: its reason; nil when it did not come.
  func awaitDisconnection() -> VhostUserError? {
    guard gone.wait(timeout: .now() + 30) == .success else { return nil }
    return reasons.withLock { $0.isEmpty ? nil : $0.removeFirst() }
  }

  private func note(_ text: String) { heard.withLock { $0.append(text) } }

  func connected() { note("connected") }
  func trackingStarts(isLate: Bool) { note(isLate ? "tracking, late" : "tracking") }
  func logReplaced() {
    note("log replaced")
    let body = onReplaced.withLock { $0 }
    body()
  }
  func trackingEnds() { note("tracking ends") }
  func stop() throws(VhostUserError) {
    note("stop")
    let body = onStop.withLock { $0 }
    try body()
  }
  func runsAgain() { note("runs") }
  func ramChanged() { note("ram") }
  func disconnected(_ reason: VhostUserError) {
    note("disconnected")
    reasons.withLock { $0.append(reason) }
    gone.signal()
  }
}
