/// When the next step of a thread with a rate is due.
///
/// A thread that waits sleeps for half a millisecond at least and then takes all the steps that
/// came due, since a sleep costs more than many steps.
struct Pace {
  private static let sleepMin: UInt64 = 500_000
  /// Further behind than this is not made up for: 50 ms.
  private static let debtMax: UInt64 = 50_000_000

  private var due: MonotonicTime
  private var now: MonotonicTime

  init(now: MonotonicTime) {
    due = now
    self.now = now
  }

  /// Nil when a step is to be taken now; otherwise when to ask again.
  mutating func wait(stepsPerSecond: UInt64) -> MonotonicTime? {
    guard stepsPerSecond != 0 else { return nil }
    if now < due {
      now = .now
      if now < due {
        return max(due, now.advanced(byNanoseconds: Self.sleepMin))
      }
      if due.advanced(byNanoseconds: Self.debtMax) < now { due = now }
    }
    due = due.advanced(byNanoseconds: max(1_000_000_000 / stepsPerSecond, 1))
    return nil
  }
}
