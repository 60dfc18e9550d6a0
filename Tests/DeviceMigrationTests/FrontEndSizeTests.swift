import DeviceMigration
import TestSupport
import Testing

/// What devices claim to hold, and what of it is believed.
@Suite struct FrontEndSizeTests {
  private static let millisecond: UInt64 = 1_000_000

  @Test func `2 to the 64 less 843575 initial bytes, as a vGPU said, are not waited for`() {
    var judge = DeviceSizeJudge()
    let claim = UInt64.max - 843_574
    let believed = judge.judge(
      PendingEstimate(precopyInitialBytes: claim, precopyDirtyBytes: 4096, stopCopyBytes: 8192),
      atNanoseconds: 0)
    #expect(believed.precopyInitialBytes == nil)
    #expect(believed.precopyDirtyBytes == 4096 && believed.stopCopyBytes == 8192)
    #expect(
      judge.doubts.map { $0.sentence(device: "vgpu0") } == [
        "device vgpu0 claims 18446744073708708041 initial bytes, more than any device holds: it "
          + "counts as not saying, and the stop does not wait for it"
      ])
    // Once, not every round.
    _ = judge.judge(PendingEstimate(precopyInitialBytes: claim - 1), atNanoseconds: 9)
    #expect(judge.doubts.count == 1)
  }

  @Test(arguments: DeviceSizeJudge.Figure.allCases)
  func `a figure that rose by more than a device can move is not believed`(
    figure: DeviceSizeJudge.Figure
  ) {
    func estimate(_ bytes: UInt64) -> PendingEstimate {
      PendingEstimate(
        precopyInitialBytes: figure == .initial ? bytes : nil,
        precopyDirtyBytes: figure == .dirty ? bytes : nil,
        stopCopyBytes: figure == .stopCopy ? bytes : nil)
    }
    func value(_ estimate: PendingEstimate) -> UInt64? {
      switch figure {
      case .initial: estimate.precopyInitialBytes
      case .dirty: estimate.precopyDirtyBytes
      case .stopCopy: estimate.stopCopyBytes
      }
    }
    var judge = DeviceSizeJudge()
    let first = UInt64(1) << 30
    #expect(value(judge.judge(estimate(first), atNanoseconds: 0)) == first)
    let possible = first + Self.millisecond * DeviceSizeJudge.bytesPerNanosecondMax
    #expect(value(judge.judge(estimate(possible + 1), atNanoseconds: Self.millisecond)) == nil)
    #expect(judge.doubts.map(\.figure) == [figure])
    #expect(value(judge.judge(estimate(possible), atNanoseconds: Self.millisecond)) == possible)
    // Down is always possible, and so is a little up at the same moment.
    #expect(value(judge.judge(estimate(7), atNanoseconds: Self.millisecond)) == 7)
    let little = 7 + DeviceSizeJudge.riseAllowedBytes
    #expect(value(judge.judge(estimate(little), atNanoseconds: Self.millisecond)) == little)
  }

  @Test func `honest figures of a device that works are all believed`() {
    var random = SeededGenerator(seed: TestSeed.seed(default: 61))
    for _ in 0..<200 {
      var judge = DeviceSizeJudge()
      var now: UInt64 = 0
      var initial = random.next() >> UInt64(24 + random.below(30))
      for _ in 0..<20 {
        let dirty = random.next() >> 40
        let estimate = PendingEstimate(
          precopyInitialBytes: initial, precopyDirtyBytes: dirty, stopCopyBytes: initial + dirty)
        #expect(judge.judge(estimate, atNanoseconds: now) == estimate)
        judge.roundEnded(initialBytes: initial)
        initial -= initial / UInt64(2 + random.below(3)) + (initial > 0 ? 1 : 0)
        now += Self.millisecond
      }
      #expect(judge.doubts == [])
    }
  }

  @Test func `initial bytes that never fall hold the stop off for three rounds and no longer`() {
    var judge = DeviceSizeJudge()
    var waited = 0
    for round in 0..<10 as Range<UInt64> {
      let believed = judge.judge(
        PendingEstimate(precopyInitialBytes: 5000), atNanoseconds: round * Self.millisecond)
      judge.roundEnded(initialBytes: believed.precopyInitialBytes)
      if believed.precopyInitialBytes != nil { waited += 1 } else { break }
    }
    #expect(waited == 1 + DeviceSizeJudge.stalledRoundCountMax)
    #expect(judge.doubts.map(\.reason) == [.neverFell(rounds: 3)])
  }

  @Test func `what was not believed is believed again when it falls, or began again`() {
    var judge = DeviceSizeJudge()
    func ask(_ bytes: UInt64) -> UInt64? {
      let believed = judge.judge(PendingEstimate(precopyInitialBytes: bytes), atNanoseconds: 0)
      judge.roundEnded(initialBytes: believed.precopyInitialBytes)
      return believed.precopyInitialBytes
    }
    for _ in 0..<4 { #expect(ask(5000) == 5000) }
    for _ in 0..<3 { #expect(ask(5000) == nil) }
    #expect(ask(4999) == 4999)
    for _ in 0..<3 { _ = ask(4999) }
    #expect(ask(4999) == nil)
    judge.initialDataRestarted()
    #expect(ask(6000) == 6000)
    // A device that always begins again is not waited for without end either.
    var waited = 0
    for _ in 0..<200 {
      judge.initialDataRestarted()
      if ask(6000) != nil { waited += 1 }
    }
    #expect(waited < 50)
  }

  @Test func `a prediction with a silent device says that it is a lower bound, and of whom`() {
    var prediction = DowntimePrediction()
    prediction.fastest.syncNanoseconds = 12_400_000
    prediction.slowest.syncNanoseconds = 12_800_000
    #expect(prediction.sentence == "~12 ms")
    prediction.slowest.syncNanoseconds = 14_800_000
    #expect(prediction.sentence == "12-14 ms")
    prediction.devicesWithoutEstimate = ["nic0"]
    #expect(prediction.sentence == "at least 12 ms (nic0 does not say how much state is left)")
    let cause = MigrationError.Cause.notConverging(rounds: 4, predicted: prediction)
    #expect("\(cause)".contains("at least 12 ms (nic0 does not say"))
    prediction.slowest.syncNanoseconds = .max
    #expect(prediction.sentence.hasPrefix("unknown"))
  }

  @Test func `whether a lower bound stops the guest is for the policy to say`() {
    for policy in [MigrationPolicy.UnknownDeviceSize.lowerBoundDecides, .neverStops] {
      let world = FrontEndWorld(seed: 62)
      world.writesPerEvent = 0
      world.sourceDevices[2].estimates = false
      world.policy.downtimeLimitNanoseconds = .max - 1
      world.policy.unknownDeviceSize = policy
      #expect(world.migrate().source == nil)
      #expect(world.differences == [])
      #expect(
        world.source.report.stopReason
          == (policy == .neverStops ? .stopAnyway(rounds: 4) : .stopOnLowerBound))
    }
  }
}
