/// What is done where the rounds do not bring the predicted downtime under the limit.
extension MigrationSource {
  /// After a round that is followed by another: says once that it brought no progress, and slows
  /// the guest where the policy wants it.
  func roundFollowed(by decision: MigrationDecision, waitsForInitialData: Bool) {
    guard decision == .anotherRound, !waitsForInitialData, let round = report.rounds.last,
      let prediction = round.prediction,
      prediction.highNanoseconds > policy.downtimeLimitNanoseconds,
      report.roundsWithoutProgress > 0
    else { return }
    if !hasNotedStall {
      hasNotedStall = true
      note(
        "round \(round.number) brought no progress: the predicted downtime is "
          + "\(prediction.sentence), the limit \(policy.downtimeLimitNanoseconds / 1_000_000) ms; "
          + "the guest writes \(round.dirtyRateBytesPerSecond >> 20) MiB/s, of which "
          + "\(round.bandwidthBytesPerSecond >> 20) MiB/s can be sent; \(policy.stallSentence)")
    }
    throttle()
  }

  private func throttle() {
    guard let throttle = policy.throttle, !cannotThrottle,
      let percent = throttle.next(after: throttledPercent)
    else { return }
    do throws(MachineError) {
      guard try machine.throttleVCPUs(percent: percent) else {
        cannotThrottle = true
        return note("the VMM cannot slow its vCPUs")
      }
    } catch {
      // The migration is as possible as it was before.
      cannotThrottle = true
      return note("\(error); they run on as they did")
    }
    throttledPercent = percent
    report.throttledPercentMax = max(report.throttledPercentMax, percent)
    observer?.migration(.throttled(percent: percent))
  }

  /// The guest gets all of its time back. Says what kept it from that.
  func releaseThrottle() -> String? {
    guard throttledPercent > 0 else { return nil }
    let percent = throttledPercent
    throttledPercent = 0
    do throws(MachineError) {
      let isDone = try machine.throttleVCPUs(percent: 0)
      return isDone ? nil : "the vCPUs are still slowed by \(percent) %"
    } catch {
      return "the vCPUs are still slowed by \(percent) %: \(error)"
    }
  }

  /// What a stop that was not promised to be within the limit means, when it begins and when it has
  /// been measured.
  func noteStopAnyway() {
    guard case .stopAnyway(let rounds)? = report.stopReason, let prediction = report.prediction
    else { return }
    note(
      "the guest is stopped anyway after \(rounds) rounds: the predicted downtime is "
        + "\(prediction.sentence), the limit \(policy.downtimeLimitNanoseconds / 1_000_000) ms")
  }

  func noteMiss() {
    guard let over = report.overLimitNanoseconds else { return }
    let limit = report.downtimeLimitNanoseconds
    note(
      "the downtime of \(Self.milliseconds(report.downtime.totalNanoseconds)) ms missed the limit "
        + "of \(Self.milliseconds(limit)) ms by \(Self.milliseconds(over)) ms")
  }

  /// Rounded up, so that a miss is never one by 0.
  private static func milliseconds(_ nanoseconds: UInt64) -> UInt64 {
    nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 == 0 ? 0 : 1)
  }
}

extension MigrationPolicy {
  /// What comes of rounds without progress, a clause.
  fileprivate var stallSentence: String {
    switch notConverging {
    case .keepGoing: "rounds go on until somebody cancels"
    case .stopAnyway(let rounds):
      "the guest is stopped anyway after round \(rounds), or after \(stalledRoundCountMax) such "
        + "rounds in a row"
    case .giveUp(let rounds):
      "the migration is given up after round \(rounds), or after \(stalledRoundCountMax) such "
        + "rounds in a row"
    }
  }
}
