import DeviceMigration
import GuestDirtyLog
import TestSupport
import Testing

@Suite struct FrontEndDecisionTests {
  /// The decision said as plainly as possible, in floating point.
  private func naive(
    rounds: Int, _ stalled: Int, _ prediction: DowntimePrediction, waits: Bool,
    _ policy: MigrationPolicy
  ) -> MigrationDecision? {
    func parts(_ pace: DowntimePrediction.Pace, overlaps: Bool) -> [Double] {
      func time(_ bytes: Double, _ speed: UInt64) -> Double {
        let time = bytes == 0 ? 0 : bytes / Double(speed) * 1e9
        // Past 64 bits is the same as never.
        return time < 0x1p64 ? time : .infinity
      }
      let pages = time(
        Double(prediction.dirtyBytes) + Double(prediction.heldBackBytes)
          + Double(pace.comingBytes), pace.bandwidthBytesPerSecond)
      let devices = Double(prediction.deviceBytes)
      let isKnown = pace.deviceBytesPerSecond > 0
      let reading = isKnown ? time(devices, pace.deviceBytesPerSecond) : 0
      return [
        pages,
        time(devices, pace.bandwidthBytesPerSecond)
          + (overlaps ? (reading > pages ? reading - pages : 0) : reading),
        Double(pace.syncNanoseconds), Double(pace.transitionNanoseconds),
        Double(pace.answerNanoseconds),
      ]
    }
    // A promise goes by the upper end.
    var total = 0.0
    var squares = 0.0
    let (fast, slow) = (
      parts(prediction.fastest, overlaps: true), parts(prediction.slowest, overlaps: false)
    )
    for (fast, slow) in zip(fast, slow) {
      total += min(fast, slow)
      squares += slow > fast ? (slow - fast) * (slow - fast) : 0
      if max(fast, slow).isInfinite { squares = .infinity }
    }
    total += squares.squareRoot()
    let limit = Double(policy.downtimeLimitNanoseconds)
    // Too near to the limit for floating point to say.
    if total.isFinite, abs(total - limit) <= max(8, limit / 1e9) { return nil }
    if !waits && total <= limit {
      if prediction.devicesWithoutEstimate.isEmpty { return .stop }
      if policy.unknownDeviceSize == .lowerBoundDecides { return .stopOnLowerBound }
    }
    let isStalled = stalled >= policy.stalledRoundCountMax
    switch policy.notConverging {
    case .keepGoing: return .anotherRound
    case .stopAnyway(let most):
      return rounds >= most || isStalled ? .stopAnyway(rounds: rounds) : .anotherRound
    case .giveUp(let most):
      return rounds >= most || isStalled ? .giveUp(rounds: rounds) : .anotherRound
    }
  }

  private func size(_ random: inout SeededGenerator) -> UInt64 {
    random.once(in: 4) ? 0 : random.next() >> UInt64(random.below(64))
  }

  private func pace(_ random: inout SeededGenerator) -> DowntimePrediction.Pace {
    var pace = DowntimePrediction.Pace()
    pace.bandwidthBytesPerSecond = size(&random) >> 20
    pace.deviceBytesPerSecond = size(&random) >> 20
    pace.syncNanoseconds = size(&random) >> 30
    pace.transitionNanoseconds = size(&random) >> 30
    pace.answerNanoseconds = size(&random) >> 30
    pace.comingBytes = size(&random) >> 20
    return pace
  }

  @Test func `the stop decision is that of a plain model`() {
    let seed = TestSeed.seed(default: 31)
    var random = SeededGenerator(seed: seed)
    var seen: [String: Int] = [:]
    for _ in 0..<20_000 {
      var prediction = DowntimePrediction()
      prediction.dirtyBytes = size(&random) >> 20
      prediction.heldBackBytes = size(&random) >> 20
      prediction.deviceBytes = size(&random) >> 20
      prediction.fastest = pace(&random)
      prediction.slowest = pace(&random)
      var policy = MigrationPolicy()
      policy.downtimeLimitNanoseconds = size(&random) >> 25
      if random.once(in: 2) { prediction.devicesWithoutEstimate = ["nic0"] }
      policy.unknownDeviceSize = random.once(in: 2) ? .lowerBoundDecides : .neverStops
      let limit = 1 + random.below(9)
      policy.notConverging =
        [.keepGoing, .stopAnyway(afterRounds: limit), .giveUp(afterRounds: limit)][random.below(3)]
      let rounds = 1 + random.below(12)
      let waits = random.once(in: 5)
      let stalled = random.below(14)
      let decision = MigrationDecision.after(
        rounds: rounds, stalledRounds: stalled, prediction, waitsForInitialData: waits,
        policy: policy)
      if let expected = naive(rounds: rounds, stalled, prediction, waits: waits, policy) {
        #expect(
          decision == expected, "\(TestSeed.reproduce(seed, filter: "FrontEndDecisionTests"))")
      }
      seen["\(decision)".prefix(12).description, default: 0] += 1
    }
    #expect(seen.count == 5 && seen.values.allSatisfy { $0 > 100 })
  }

  @Test func `nothing measured, or sizes past 64 bits, never look like a short downtime`() {
    var prediction = DowntimePrediction()
    prediction.dirtyBytes = 1
    #expect(prediction.totalNanoseconds == UInt64.max)
    prediction.fastest.bandwidthBytesPerSecond = 1
    // One end alone is no promise.
    #expect(prediction.highNanoseconds == UInt64.max && prediction.totalNanoseconds == UInt64.max)
    prediction.slowest.bandwidthBytesPerSecond = 1
    prediction.dirtyBytes = UInt64.max
    prediction.deviceBytes = UInt64.max
    #expect(prediction.totalNanoseconds == UInt64.max)
    prediction.dirtyBytes = 0
    prediction.deviceBytes = 0
    var pace = DowntimePrediction.Pace()
    pace.syncNanoseconds = UInt64.max
    pace.answerNanoseconds = 5
    #expect(DowntimePrediction(pace).totalNanoseconds == UInt64.max)
    pace.syncNanoseconds = 0
    #expect(DowntimePrediction(pace).totalNanoseconds == 5)
  }

  @Test func `pinned pages wait for the end and are part of the prediction`() throws {
    let world = FrontEndWorld(seed: 32)
    world.writesPerEvent = 20
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
    let last = try #require(world.source.report.prediction)
    #expect(last.heldBackBytes > 0)
    #expect(last.deviceBytes > 0 && !last.isLowerBound)
    #expect(world.source.report.rounds.last?.isFinal == true)
    #expect(world.source.report.stopReason == .stopAnyway(rounds: 4))
    let downtime = world.source.report.downtime
    #expect(downtime.totalNanoseconds > 0 && downtime.pagesBytes > 0 && downtime.deviceBytes > 0)
    let parts =
      downtime.stopVCPUsNanoseconds + downtime.p2pNanoseconds + downtime.stopCopyNanoseconds
      + downtime.finalSyncNanoseconds + downtime.pagesNanoseconds + downtime.deviceNanoseconds
      + downtime.stateNanoseconds + downtime.loadedNanoseconds + downtime.startNanoseconds
    #expect(parts <= downtime.totalNanoseconds)
    #expect(parts * 2 > downtime.totalNanoseconds)
  }

  @Test func `a device that does not say its size makes the prediction a lower bound`() throws {
    let world = FrontEndWorld(seed: 33)
    world.sourceDevices[2].estimates = false
    #expect(world.migrate().source == nil)
    let prediction = try #require(world.source.report.prediction)
    #expect(prediction.isLowerBound && prediction.devicesWithoutEstimate == ["plain"])
  }

  @Test func `a guest that does not converge is stopped, given up, or kept going by policy`() {
    let stopped = FrontEndWorld(seed: 34)
    stopped.writesPerEvent = 20
    #expect(stopped.migrate().source == nil)
    #expect(stopped.source.report.stopReason == .stopAnyway(rounds: 4))

    let givenUp = FrontEndWorld(seed: 34)
    givenUp.writesPerEvent = 20
    givenUp.policy.notConverging = .giveUp(afterRounds: 3)
    let error = givenUp.migrate().source
    guard case .notConverging(3, _)? = error?.cause else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(givenUp.leftovers == [])
    #expect(givenUp.source.report.roundsWithoutProgress >= 1)

    let kept = FrontEndWorld(seed: 34)
    kept.writesPerEvent = 20
    kept.policy.notConverging = .keepGoing
    kept.onEvent = { [unowned kept] event in
      if case .roundEnded(let round, _) = event, round.number == 40 {
        kept.source.cancellation.cancel(because: "enough")
      }
    }
    #expect(kept.migrate().source != nil)
    #expect(kept.source.report.rounds.count == 40)
  }

  @Test func `a guest that stands still converges after its first round`() {
    let world = FrontEndWorld(seed: 35)
    world.writesPerEvent = 0
    world.policy.downtimeLimitNanoseconds = UInt64.max - 1
    #expect(world.migrate().source == nil)
    #expect(world.source.report.stopReason == .stop)
    #expect(world.source.report.rounds.count == 2)
    #expect(world.differences == [])
  }

  @Test func `rows say who dirtied what, and count every byte of the stream`() {
    let world = FrontEndWorld(seed: 36)
    #expect(world.migrate().source == nil)
    let report = world.source.report
    let dirtied = report.rounds.flatMap(\.dirtiedPages).filter { $0.key != .putBack }
    #expect(dirtied.allSatisfy { $0.key == .deviceQuery(.init(0)) } && !dirtied.isEmpty)
    #expect(report.rounds.reduce(0) { $0 + $1.contentPages } == report.totals.pages)
    #expect(report.rounds.reduce(0) { $0 + $1.zeroPages } == report.totals.zeroPages)
    #expect(report.rounds.reduce(0) { $0 + $1.sentBytes } < report.streamBytes)
    #expect(report.backendCallCount == report.rounds.count)
    #expect(report.rounds.allSatisfy { $0.nanoseconds > 0 })
  }
}
