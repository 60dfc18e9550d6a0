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
    for (source, status) in zip(signals, [ToolStatus.interrupted, .terminated]) {
      source.setEventHandler { [target] in target.interrupt(status) }
      source.resume()
    }
  }

  /// How the tool ends for the first signal; nil when none came.
  var status: ToolStatus? { target.status }

  /// What is under way now.
  func watch(_ request: CancellationRequest?, _ channel: any ByteChannel) {
    target.watch(request, channel)
  }
}

/// What a signal has to reach, from whichever thread it is handled on.
private final class InterruptionTarget: Sendable {
  private struct State {
    var status: ToolStatus?
    var request: CancellationRequest?
    var channel: (any ByteChannel)?
  }
  private let state = Mutex(State())

  var status: ToolStatus? { state.withLock { $0.status } }

  func watch(_ request: CancellationRequest?, _ channel: any ByteChannel) {
    state.withLock {
      $0.request = request
      $0.channel = channel
    }
  }

  func interrupt(_ status: ToolStatus) {
    let (isSecond, request, channel) = state.withLock { state in
      defer { state.status = state.status ?? status }
      return (state.status != nil, state.request, state.channel)
    }
    if isSecond {
      TemporaryFolder.removeAll()
      exit(status.rawValue)
    }
    request?.cancel(because: "interrupted")
    // A call that waits for the other side does not look; nor does the comparison.
    DispatchQueue.global().asyncAfter(deadline: .now() + (request == nil ? 0 : 2)) {
      channel?.shutDown()
    }
  }
}
