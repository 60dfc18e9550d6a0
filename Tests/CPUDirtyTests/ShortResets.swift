import Locking
import TestSupport

/// A storm of signals for a fake KVM: resets that end early, at nothing, or fail, some of them for
/// longer than a source tries.
final class ShortResets: Sendable {
  private struct State {
    var random: SeededGenerator
    /// Resets still to fail.
    var stormCount = 0
    var answer: Int32 = 0
  }

  private let state: Mutex<State>

  init(seed: UInt64) { state = Mutex(State(random: SeededGenerator(seed: seed))) }

  /// Of that many entries.
  func answer(_ takenCount: Int) -> Int32 {
    state.withLock { state in
      if state.stormCount > 0 {
        state.stormCount -= 1
        return state.answer
      }
      guard takenCount > 0, state.random.once(in: 3) else { return Int32(takenCount) }
      if state.random.once(in: 2) { return Int32(state.random.below(takenCount)) }
      state.answer = [0, -4, -5][state.random.below(3)]
      state.stormCount = state.random.once(in: 2) ? 1000 : 1
      if state.stormCount == 1000 { state.stormCount = 60 + state.random.below(80) }
      return state.answer
    }
  }
}
