@testable import DeviceMigration
import TestSupport
import Testing

/// The prediction against what the same migration then took, in virtual time.
@Suite struct PredictionTests {
  private struct Outcome {
    var errors: [Double] = []
    var promisedCount = 0
    var broken: [String] = []
    var median: Double { errors.sorted()[errors.count / 2] }
    var ninthDecile: Double { errors.sorted()[errors.count * 9 / 10] }
  }

  private func outcome(
    _ place: VirtualLoad.Place, _ seeds: Range<UInt64>, pongsOvertake: Bool = false
  ) throws -> Outcome {
    var outcome = Outcome()
    for seed in seeds {
      let report = try VirtualMigration(place, seed: seed, pongsOvertake: pongsOvertake).run()
      let actual = report.downtime.totalNanoseconds
      let predicted = try #require(report.prediction)
      outcome.errors.append(
        abs(Double(predicted.totalNanoseconds) - Double(actual)) / Double(actual))
      guard report.stopReason == .stop else { continue }
      outcome.promisedCount += 1
      if actual > report.downtimeLimitNanoseconds {
        outcome.broken.append("seed \(seed): \(predicted.sentence), then \(actual / 1000) us")
      }
    }
    return outcome
  }

  @Test func `over migrations in one machine the prediction is near, and promises are kept`()
    throws
  {
    let base = TestSeed.seed(default: 1000)
    let outcome = try outcome(.oneMachine, base..<base + 48)
    #expect(outcome.median <= 0.15, "\(outcome)")
    #expect(outcome.ninthDecile <= 0.5, "\(outcome)")
    #expect(outcome.broken == [])
    #expect(outcome.promisedCount >= 24, "\(outcome)")
  }

  @Test func `over a link of 100 MiB in a second it is nearer, and promises are kept`() throws {
    let base = TestSeed.seed(default: 2000)
    let outcome = try outcome(.rateLimitedLink, base..<base + 8)
    #expect(outcome.median <= 0.05, "\(outcome)")
    #expect(outcome.ninthDecile <= 0.15, "\(outcome)")
    #expect(outcome.broken == [])
    #expect(outcome.promisedCount >= 4, "\(outcome)")
  }

  @Test func `the comparison notices answers that do not wait for what was written before`() throws
  {
    let base = TestSeed.seed(default: 2000)
    let outcome = try outcome(.rateLimitedLink, base..<base + 8, pongsOvertake: true)
    #expect(outcome.median > 0.05 || outcome.ninthDecile > 0.15, "\(outcome)")
  }
}

@Suite struct EstimatorTests {
  private typealias Spread = DowntimeEstimator.Spread

  private func round(
    _ bytesPerSecond: UInt64?, sync: UInt64 = 1000, answer: UInt64? = 100
  ) -> DowntimeEstimator.Observation {
    var round = DowntimeEstimator.Observation()
    round.bytesPerSecond = bytesPerSecond
    round.syncNanoseconds = sync
    round.answerNanoseconds = answer
    return round
  }

  private func prediction(_ estimator: DowntimeEstimator) -> DowntimePrediction {
    var prediction = DowntimePrediction()
    prediction.dirtyBytes = 1 << 20
    estimator.apply(to: &prediction)
    return prediction
  }

  @Test func `the worst is enlarged by how far measurements lie apart, the more the fewer`() {
    #expect(Spread(times: [4000]).worst == 5000)
    #expect(Spread(times: [4000, 6000]) == .init(times: [6000, 4000]))
    #expect(Spread(times: [4000, 6000]).best == 4000 && Spread(times: [4000, 6000]).worst == 8000)
    #expect(Spread(times: [4000, 5000, 6000]).worst == 7000)
    // Equal ones leave a little.
    #expect(Spread(times: [6400, 6400, 6400]).worst == 6600)
    // A speed of half is a time of twice: 1, 2 and then 3.
    let speeds = Spread(speeds: [6_000_000, 3_000_000])
    #expect(speeds.best == 6_000_000 && (1_999_999...2_000_000).contains(speeds.worst))
    #expect(Spread(speeds: []).worst == 0 && Spread(times: []).worst == 0)
    let most = UInt64.max
    #expect(Spread(times: [most]).worst == most && Spread(speeds: [most]).best == most)
  }

  @Test func `the first pass counts only as long as nothing else is known`() {
    var estimator = DowntimeEstimator()
    #expect(prediction(estimator).highNanoseconds == UInt64.max)
    estimator.roundEnded(round(100 << 20))
    #expect(prediction(estimator).fastest.bandwidthBytesPerSecond == 100 << 20)
    estimator.roundEnded(round(nil))
    #expect(prediction(estimator).fastest.bandwidthBytesPerSecond == 100 << 20)
    estimator.roundEnded(round(900 << 20))
    estimator.roundEnded(round(900 << 20))
    let later = prediction(estimator)
    #expect(later.fastest.bandwidthBytesPerSecond == 900 << 20)
    #expect(later.slowest.bandwidthBytesPerSecond > 800 << 20)
  }

  @Test func `one disturbed sync, answer or step widens the range and moves no low end`() {
    func estimate(disturbed: Bool) -> DowntimePrediction {
      var estimator = DowntimeEstimator()
      estimator.walked(disturbed ? [10, 10, 10, 50_000] : [10, 10, 10, 10])
      for number in 0..<4 {
        let isBad = disturbed && number == 2
        estimator.roundEnded(
          round(1 << 30, sync: isBad ? 90_000 : 1000, answer: isBad ? 90_000 : 100))
      }
      return prediction(estimator)
    }
    let (still, disturbed) = (estimate(disturbed: false), estimate(disturbed: true))
    #expect(disturbed.lowNanoseconds <= still.lowNanoseconds + 100)
    #expect(disturbed.highNanoseconds > still.highNanoseconds + 90_000)
    // And is forgotten when its round is no recent one any more.
    var estimator = DowntimeEstimator()
    for number in 0..<8 { estimator.roundEnded(round(1 << 30, sync: number == 1 ? 90_000 : 1000)) }
    #expect(prediction(estimator).slowest.syncNanoseconds < 1100)
  }

  @Test func `rounds that bring nothing are not hidden by the best of the rounds before`() {
    var estimator = DowntimeEstimator()
    var report = MigrationReport()
    for number in 0..<8 {
      // As fast as ever, and as much is left as ever.
      estimator.roundEnded(round(number < 3 ? 2 << 30 : 1 << 30))
      var ended = MigrationRound()
      ended.prediction = prediction(estimator)
      report.rounds.append(ended)
    }
    #expect(report.roundsWithoutProgress >= 4)
  }
}

@Suite struct PingTests {
  @Test func `a destination is asked in every round, and its start-up is no answer of it`() throws {
    let world = FrontEndWorld(seed: 81)
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
    let report = world.source.report
    let prediction = try #require(report.prediction)
    #expect(prediction.fastest.answerNanoseconds > 0)
    // Two a round, written and read by a clock that counts its own readings.
    #expect(prediction.fastest.answerNanoseconds < 10_000)
  }

  private func plain(_ change: (inout RecordedStream) -> Void) throws -> StreamError.Reason? {
    var stream = try RecordedStream(StreamScenario.bytes())
    change(&stream)
    return StreamScenario.load(stream.encoded()).streamError
  }

  @Test func `a ping is refused where nobody waits for answers`() throws {
    let found = try plain { $0.sections.insert((StreamSection(.ping, count: 1), []), at: 1) }
    guard case .unexpected(.ping, _)? = found else {
      Issue.record("\(String(describing: found))")
      return
    }
  }

  /// What the source makes of a destination that answers by hand.
  private func source(
    accepted: UInt64, pong: @escaping (StreamSection) -> StreamSection?
  ) -> (error: MigrationError?, pings: Int) {
    let world = FrontEndWorld(seed: 82)
    let link = MemoryLink(plan: world.plan)
    // The step holds the link's end, hence the link that holds the step.
    defer { link.step = nil }
    let reader = StreamReader(link.destination)
    let writer = StreamWriter(link.destination)
    var pings = 0
    var hasBegun = false
    link.step = {
      do {
        if !hasBegun {
          try reader.begin()
          try writer.begin()
          hasBegun = true
        }
        let section = try reader.nextSection()
        var payload: [UInt8] = []
        try reader.readPayload(of: section, into: &payload)
        switch section.kind {
        case .hello: try writer.write(.accepted, argument: accepted)
        case .ping:
          pings += 1
          guard let answer = pong(section) else { return false }
          try writer.write(answer.kind, argument: answer.argument, count: answer.count)
        case .complete: try writer.write(.loaded)
        case .start: try writer.write(.running)
        default: break
        }
        return true
      } catch {
        return false
      }
    }
    do throws(MigrationError) {
      _ = try world.source.run(over: link.source)
      return (nil, pings)
    } catch {
      if world.leftovers != [] { Issue.record("\(world.leftovers)") }
      return (error, pings)
    }
  }

  @Test func `a destination that does not say that it answers pings gets none`() {
    let outcome = source(accepted: 0) { _ in nil }
    #expect(outcome.error == nil && outcome.pings == 0)
  }

  @Test func `an answer to another ping, or none, fails the migration, and the guest runs on`() {
    let good = source(accepted: 1) { StreamSection(.pong, count: $0.count) }
    #expect(good.error == nil && good.pings > 4)
    let wrong = source(accepted: 1) { StreamSection(.pong, count: $0.count &+ 1) }
    guard case .stream(let error)? = wrong.error?.cause,
      case .malformed(.pong, _) = error.reason
    else {
      Issue.record("\(String(describing: wrong.error))")
      return
    }
    #expect(source(accepted: 1) { _ in nil }.error != nil)
    #expect(source(accepted: 1) { _ in StreamSection(.loaded) }.error != nil)
  }
}
