import DeviceMigration
import Dispatch
import Locking

/// Bounds the time the guest stands still: a destination that reads too slowly after the stop, or
/// does not say that it has loaded, is given up, and the guest runs on here. Only as long as
/// `start` has not been sent.
final class StopWatchdog: Sendable {
  private struct State {
    /// Counts what was armed; a timer of an earlier one does nothing.
    var number = 0
    var isArmed = false
  }

  private let limitMilliseconds: Int
  private let cancellation: CancellationRequest
  private let channel: any ByteChannel
  private let state = Mutex(State())

  init(limitMilliseconds: Int, _ cancellation: CancellationRequest, _ channel: any ByteChannel) {
    self.limitMilliseconds = limitMilliseconds
    self.cancellation = cancellation
    self.channel = channel
  }

  /// On the thread that migrates.
  func heard(_ event: MigrationEvent) {
    switch event {
    case .stopping(let prediction): arm(prediction)
    case .starting, .failed: disarm()
    default: break
    }
  }

  /// A stop that was predicted to be long is not given up for being so.
  private func arm(_ prediction: DowntimePrediction?) {
    let predicted = (prediction?.highNanoseconds ?? 0) / 1_000_000
    let milliseconds = max(UInt64(limitMilliseconds), min(predicted, 3_600_000) * 3)
    let number = state.withLock { state in
      state.number += 1
      state.isArmed = true
      return state.number
    }
    let deadline = DispatchTime.now() + .milliseconds(Int(milliseconds))
    DispatchQueue.global().asyncAfter(deadline: deadline) { [self] in
      let isLate = state.withLock { state in
        defer { if state.number == number { state.isArmed = false } }
        return state.number == number && state.isArmed
      }
      guard isLate else { return }
      cancellation.cancel(
        because: "the guest stood still for \(milliseconds) ms, which is over the limit for a stop")
      channel.shutDown()
    }
  }

  private func disarm() { state.withLock { $0.isArmed = false } }
}
