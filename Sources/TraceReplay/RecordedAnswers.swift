import Addressing
import EventTrace
import Locking

/// What one container's backend answered to the calls of one operation, in the order of the calls.
final class RecordedAnswers: Sendable {
  private struct State: Sendable {
    /// The next one last.
    var pending: [BackendAnswer] = []
    /// Calls before the next that found nothing.
    var cleanLeft: UInt64 = 0
    var divergence: String?
  }

  private let state = Mutex(State())

  func load(_ answers: [BackendAnswer]) {
    state.withLock { state in
      state = State(pending: answers.reversed())
      state.cleanLeft = state.pending.last?.cleanCallCountBefore ?? 0
    }
  }

  /// The answer to this call; nil: it succeeded, removed what was asked for and reported nothing.
  func take(_ log: UInt16?, _ call: BackendAnswer.Call, _ range: IOVARange?) -> BackendAnswer? {
    state.withLock { state in
      if state.cleanLeft > 0 {
        state.cleanLeft -= 1
        return nil
      }
      guard let next = state.pending.last else { return nil }
      guard next.log == log, next.call == call, next.range == range else {
        state.divergence =
          state.divergence
          ?? "a call \(call) of \(Self.text(range)) came where \(next) was answered"
        return nil
      }
      state.pending.removeLast()
      state.cleanLeft = state.pending.last?.cleanCallCountBefore ?? 0
      return next
    }
  }

  /// What is otherwise than recorded, once the operation is done.
  func finish() -> String? {
    state.withLock { state in
      state.divergence ?? state.pending.last.map { "nobody asked for the answer \($0)" }
    }
  }

  private static func text(_ range: IOVARange?) -> String { range.map { "IOVA \($0)" } ?? "a log" }
}
