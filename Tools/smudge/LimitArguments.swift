import ArgumentParser
import DeviceMigration

/// What is done where rounds do not bring the downtime under the limit.
enum LimitPolicy: String, CaseIterable, ExpressibleByArgument {
  case keepGoing = "keep-going"
  case giveUp = "give-up"
  case stopAnyway = "stop-anyway"
}

struct LimitArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Where rounds do not reach --limit: keep going until ^C, give up, or stop anyway.",
      valueName: "policy"))
  var onLimit = LimitPolicy.keepGoing

  @Option(help: "Rounds before giving up or stopping anyway, 1 to 1000000.")
  var rounds = 30

  @Flag(help: "Slow the guest's processors in rounds that bring no progress.")
  var throttle = false

  func validate() throws {
    guard (1...1_000_000).contains(rounds) else {
      throw ValidationError("--rounds is 1 to 1000000")
    }
  }

  func apply(to policy: inout MigrationPolicy) {
    policy.notConverging =
      switch onLimit {
      case .keepGoing: .keepGoing
      case .giveUp: .giveUp(afterRounds: rounds)
      case .stopAnyway: .stopAnyway(afterRounds: rounds)
      }
    if throttle { policy.throttle = VCPUThrottle() }
  }
}

extension MigrationReport {
  /// The guest was stopped though more than the limit was predicted, and it stood still for longer.
  var missedLimit: Bool {
    if case .stopAnyway? = stopReason { overLimitNanoseconds != nil } else { false }
  }
}
