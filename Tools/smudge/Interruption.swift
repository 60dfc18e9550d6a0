import DeviceMigration
import Dispatch
import Foundation
import Locking

/// SIGINT and SIGTERM during a migration: the source gives up in good order, and the guest runs on.
/// A second signal ends the program at once.
final class Interruption {
  private let target = InterruptionTarget()
  private let signals: [any DispatchSourceSignal]

  init() {
    signals = [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      return DispatchSource.makeSignalSource(signal: number, queue: .global())
    }
    for source in signals {
      source.setEventHandler { [target] in target.interrupt() }
      source.resume()
    }
  }

  var isRequested: Bool { target.isRequested }

  /// What is under way now.
  func watch(_ request: CancellationRequest?, _ channel: any ByteChannel) {
    target.watch(request, channel)
  }
}

/// What a signal has to reach, from whichever thread it is handled on.
private final class InterruptionTarget: Sendable {
  private struct State {
    var isRequested = false
    var request: CancellationRequest?
    var channel: (any ByteChannel)?
  }
  private let state = Mutex(State())

  var isRequested: Bool { state.withLock { $0.isRequested } }

  func watch(_ request: CancellationRequest?, _ channel: any ByteChannel) {
    state.withLock {
      $0.request = request
      $0.channel = channel
    }
  }

  func interrupt() {
    let (isSecond, request, channel) = state.withLock { state in
      defer { state.isRequested = true }
      return (state.isRequested, state.request, state.channel)
    }
    if isSecond { exit(ToolStatus.interrupted.rawValue) }
    request?.cancel(because: "interrupted")
    // A call that waits for the other side does not look; nor does the comparison.
    DispatchQueue.global().asyncAfter(deadline: .now() + (request == nil ? 0 : 2)) {
      channel?.shutDown()
    }
  }
}
