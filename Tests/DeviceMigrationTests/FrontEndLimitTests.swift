import DeviceMigration
import TestSupport
import Testing

/// What happens when the rounds do not bring the downtime under the limit.
@Suite struct FrontEndLimitTests {
  private func busy(_ seed: UInt64 = 71) -> FrontEndWorld {
    let world = FrontEndWorld(seed: seed)
    world.writesPerEvent = 20
    return world
  }

  private func cancel(_ world: FrontEndWorld, afterRound last: Int) {
    world.onEvent = { [unowned world] event in
      if case .roundEnded(let round, _) = event, round.number == last {
        world.source.cancellation.cancel(because: "enough")
      }
    }
  }

  @Test func `rounds go on by default, and the first without progress is noted once`() throws {
    #expect(MigrationPolicy().notConverging == .keepGoing)
    let world = busy()
    world.policy.notConverging = MigrationPolicy().notConverging
    cancel(world, afterRound: 50)
    #expect(world.migrate().source != nil)
    let report = world.source.report
    #expect(report.rounds.count == 50)
    let notes = report.notes.filter { $0.contains("brought no progress") }
    #expect(notes.count == 1)
    // It names the first such round.
    var upTo = MigrationReport()
    let first = try #require(
      report.rounds.first { round in
        upTo.rounds.append(round)
        return upTo.roundsWithoutProgress > 0
      })
    #expect(notes.first?.hasPrefix("round \(first.number) brought") == true)
    #expect(notes.first?.contains("rounds go on until somebody cancels") == true)
  }

  @Test func `a guest that converges is not said to make no progress`() {
    let world = FrontEndWorld(seed: 72)
    world.writesPerEvent = 0
    world.policy.downtimeLimitNanoseconds = .max - 1
    world.policy.notConverging = .keepGoing
    #expect(world.migrate().source == nil)
    #expect(world.source.report.notes == [])
    #expect(world.source.report.overLimitNanoseconds == nil)
  }

  @Test func `stop anyway says before and after by how much it misses the limit`() throws {
    let world = busy()
    world.policy.notConverging = .stopAnyway(afterRounds: 4)
    #expect(world.migrate().source == nil)
    let report = world.source.report
    #expect(report.stopReason == .stopAnyway(rounds: 4))
    let over = try #require(report.overLimitNanoseconds)
    #expect(over == report.downtime.totalNanoseconds - 1)
    #expect(report.notes.contains { $0.hasPrefix("the guest is stopped anyway after 4 rounds") })
    #expect(report.notes.contains { $0.contains("missed the limit of 1 ms by 1 ms") })
  }

  @Test func `rounds without progress end the patience before their number is used up`() {
    for givesUp in [true, false] {
      let world = busy()
      world.policy.stalledRoundCountMax = 5
      world.policy.notConverging =
        givesUp ? .giveUp(afterRounds: 100_000) : .stopAnyway(afterRounds: 100_000)
      #expect((world.migrate().source == nil) == !givesUp)
      #expect(world.source.report.rounds.count < 100)
      #expect(world.source.report.roundsWithoutProgress >= 5)
      #expect(givesUp ? world.leftovers == [] : world.differences == [])
    }
  }

  /// A limit that a guest reaches which writes nothing, and one that writes all the time does not.
  private func limitBetween() -> UInt64 {
    func lowest(_ writes: Int) -> UInt64 {
      let world = FrontEndWorld(seed: 73)
      world.writesPerEvent = writes
      world.policy.notConverging = .keepGoing
      cancel(world, afterRound: 20)
      _ = world.migrate()
      return world.source.report.rounds.compactMap { $0.prediction?.highNanoseconds }.min() ?? 0
    }
    let (still, writing) = (lowest(0), lowest(20))
    #expect(still < writing)
    return (still + writing) / 2
  }

  @Test func `a guest that is slowed converges where it did not, and gets its time back`() {
    let limit = limitBetween()
    let world = FrontEndWorld(seed: 73)
    world.writesPerEvent = 20
    world.policy.downtimeLimitNanoseconds = limit
    world.policy.notConverging = .giveUp(afterRounds: 200)
    world.policy.stalledRoundCountMax = 200
    world.policy.throttle = VCPUThrottle()
    #expect(world.migrate().source == nil)
    #expect(world.source.report.stopReason == .stop)
    #expect(world.differences == [])
    let asked = world.events.compactMap { event -> Int? in
      if case .throttled(let percent) = event { percent } else { nil }
    }
    #expect(asked.first == 20 && asked == asked.sorted() && Set(asked).count == asked.count)
    #expect(asked.allSatisfy { $0 < 100 })
    #expect(world.source.report.throttledPercentMax == asked.last)
    #expect(world.sourceMachine.throttledPercent == 0)
  }

  @Test func `a slowed guest gets its time back before it runs on after a failure`() {
    let world = busy()
    world.policy.notConverging = .giveUp(afterRounds: 8)
    world.policy.throttle = VCPUThrottle()
    var whenResumed: [Int] = []
    world.sourceMachine.onResume = { [unowned world] in
      whenResumed.append(world.sourceMachine.throttledPercent)
    }
    let error = world.migrate().source
    guard case .notConverging? = error?.cause else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(world.source.report.throttledPercentMax >= 20)
    #expect(world.sourceMachine.throttledPercent == 0)
    #expect(whenResumed.allSatisfy { $0 == 0 })
    #expect(world.leftovers == [])
  }

  @Test func `a VMM that cannot slow its guest is noted and asked no more`() {
    let world = busy()
    world.sourceMachine.canThrottle = false
    world.policy.notConverging = .stopAnyway(afterRounds: 12)
    world.policy.throttle = VCPUThrottle()
    #expect(world.migrate().source == nil)
    #expect(world.source.report.notes.contains("the VMM cannot slow its vCPUs"))
    #expect(world.plan.journal.filter { $0.contains("throttleVCPUs") }.count == 1)
  }
}
