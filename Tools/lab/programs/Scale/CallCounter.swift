import Locking

/// Counts and times the calls that go through it.
final class CallCounter: Sendable {
  private let counts = Mutex(CallCounts())

  /// What was called since the last time.
  func take() -> CallCounts {
    counts.withLock { counts in
      defer { counts = CallCounts() }
      return counts
    }
  }

  func measured(_ call: () -> Int32) -> Int32 {
    let began = nanoseconds()
    let result = call()
    let took = nanoseconds() - began
    counts.withLock { $0.note(took) }
    return result
  }
}
