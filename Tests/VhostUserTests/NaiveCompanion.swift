@testable import VhostUser

/// What a companion should be doing, read off the whole list of what has happened, each question
/// by a walk of its own from the end or the beginning. No state is kept.
struct NaiveCompanion {
  /// What can happen to it, with the answer to what it asks put in the same step.
  enum Step: Hashable, CaseIterable {
    case connect, disconnect
    case logOn, logOff
    case logBase, badLogBase
    case kick, enable, disable
    case ringBase, ringBaseRefused, reset
    case access
  }

  let steps: [Step]
  /// The steps since the connection was made; nil when there is none.
  let session: ArraySlice<Step>?

  init(_ steps: [Step]) {
    self.steps = steps
    session = Self.session(steps)
  }

  private static func session(_ steps: [Step]) -> ArraySlice<Step>? {
    var begin: Int?
    for index in steps.indices {
      guard let first = begin else {
        if steps[index] == .connect { begin = index + 1 }
        continue
      }
      // A refused stop, and one without the log that was wanted, end the connection.
      if steps[index] == .disconnect || closes(steps[first...index]) { begin = nil }
    }
    return begin.map { steps[$0...] }
  }

  /// Whether the last step of a session ends it.
  private static func closes(_ session: ArraySlice<Step>) -> Bool {
    guard let last = session.last else { return false }
    guard [.ringBase, .ringBaseRefused, .reset].contains(last) else { return false }
    return last == .ringBaseRefused || isUnlogged(session.dropLast())
  }

  /// A log is wanted, the device runs, and there is none that can be used.
  private static func isUnlogged(_ session: ArraySlice<Step>) -> Bool {
    guard wantsLog(session) else { return false }
    let base = session.lastIndex { [.logBase, .badLogBase].contains($0) }
    // Forgotten with the stop of the device, or when no log was wanted any more.
    if let base, session[base] == .badLogBase,
      !session[base...].contains(where: { $0 == .ringBase || $0 == .reset }),
      !wasTakenBack(session, after: base)
    {
      return true
    }
    return isStarted(session) && !hasLog(session)
  }

  /// LOG_ALL was taken back after `index`.
  private static func wasTakenBack(_ session: ArraySlice<Step>, after index: Int) -> Bool {
    var wanted = wantsLog(session[..<index])
    for step in session[index...] {
      if step == .logOn { wanted = true }
      if step == .logOff {
        if wanted { return true }
        wanted = false
      }
    }
    return false
  }

  private static func wantsLog(_ session: ArraySlice<Step>) -> Bool {
    session.last { $0 == .logOn || $0 == .logOff } == .logOn
  }

  private static func isStarted(_ session: ArraySlice<Step>) -> Bool {
    guard let start = session.lastIndex(where: { $0 == .kick || $0 == .enable }) else {
      return false
    }
    return !session[start...].contains { $0 == .ringBase || $0 == .reset }
  }

  private static func hasLog(_ session: ArraySlice<Step>) -> Bool {
    guard let base = session.lastIndex(where: { $0 == .logBase || $0 == .badLogBase }),
      session[base] == .logBase
    else { return false }
    return !session[base...].contains { $0 == .ringBase || $0 == .reset }
      && !wasTakenBack(session, after: base)
  }

  var isConnected: Bool { session != nil }
  var isStarted: Bool { session.map(Self.isStarted) ?? false }
  var wantsLog: Bool { session.map(Self.wantsLog) ?? false }
  var hasLog: Bool { session.map(Self.hasLog) ?? false }

  /// There was a moment since LOG_ALL came at which there was a log as well.
  var isTracking: Bool {
    guard let session, wantsLog,
      let on = session.indices.first(where: { index in
        session[index] == .logOn && Self.wantsLog(session[index...])
          && !session[index...].contains(.logOff)
      })
    else { return false }
    return (on..<session.endIndex).contains { Self.hasLog(session[session.startIndex...$0]) }
  }

  /// A stop was answered, and nothing has run since.
  var isQuiet: Bool {
    for index in steps.indices.reversed() {
      if ![.access, .enable, .kick, .ringBase, .ringBaseRefused, .reset].contains(steps[index]) {
        continue
      }
      let before = NaiveCompanion(Array(steps[..<index]))
      switch steps[index] {
      case .access: return false
      case .enable where before.isConnected: return false
      case .kick where before.isConnected && !before.hasProtocolFeatures: return false
      case .ringBaseRefused where before.isConnected && before.mayAsk: return false
      case .ringBase where before.isConnected && before.mayAsk,
        .reset where before.isConnected && before.mayAsk:
        return true
      default: break
      }
    }
    return false
  }

  /// A stop would reach the delegate.
  private var mayAsk: Bool { session.map { !Self.isUnlogged($0) } ?? false }

  /// The steps set features with and without LOG_ALL, always with those of the protocol.
  private var hasProtocolFeatures: Bool {
    session?.contains { $0 == .logOn || $0 == .logOff } ?? false
  }
}
