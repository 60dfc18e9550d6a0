import Locking

/// How a course lets others go first between two of its steps.
///
/// Whoever waited when a step ended has the lock next. Whoever maps one page after another comes
/// again at once, and is waited for until it pauses; though all in all not for longer than the
/// steps took: a guest that never pauses must not keep a migration from ending.
struct StepBackoff: Sendable {
  /// A sync leaves the lock alone until nobody has asked for it for one part in so many of the
  /// time of its steps.
  static let quietPart: UInt64 = 50
  static let quietNanosecondsMin: UInt64 = 1000
  /// What steps that meet nobody may have saved up: the time in which one that was woken for the
  /// lock gets to run.
  static let creditNanosecondsMax: UInt64 = 5_000_000

  /// Of steps since the last pause.
  private var unpaused: UInt64 = 0
  /// For how long others may be waited for.
  private var credit: UInt64 = 0

  /// Lets others go first after a step that took so long. Steps too small for the shortest pause
  /// are added up, unless somebody waits.
  mutating func giveWay<State: ~Copyable>(
    _ lock: borrowing TurnLock<State>, after nanoseconds: UInt64, _ pace: StepPace
  ) {
    guard let clock = pace.clock else { return }
    unpaused &+= nanoseconds
    credit = max(nanoseconds, min(Self.creditNanosecondsMax, credit &+ nanoseconds))
    let quiet = max(unpaused / Self.quietPart, Self.quietNanosecondsMin)
    guard lock.hasWaiter || unpaused >= Self.quietNanosecondsMin * Self.quietPart else { return }
    let began = clock()
    var (seen, last, now) = (lock.requestCount, began, began)
    while true {
      let isWaitedFor = lock.hasWaiter
      if isWaitedFor { pace.rest?() }
      now = clock()
      let count = lock.requestCount
      if count != seen || isWaitedFor { (seen, last) = (count, now) }
      if now &- last >= quiet || now &- began >= credit { break }
    }
    credit &-= min(credit, now &- began)
    unpaused = 0
  }
}
