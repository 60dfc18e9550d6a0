/// What the parts of a stop take, from what recent rounds showed: at best and at worst.
///
/// Invariants:
/// 1. Nothing is predicted that was not measured: without a round that sent something there is no
///    bandwidth, and no end of the prediction.
/// 2. The worst of few measurements is not the worst there is: it is enlarged by how far they lie
///    apart, the more the fewer they are (``Spread``).
///
/// A value: equal rounds give equal predictions.
struct DowntimeEstimator {
  /// What one round showed. Nil: it did not show that.
  struct Observation {
    var syncNanoseconds: UInt64 = 0
    /// A ping and its answer, with nothing else on the way.
    var answerNanoseconds: UInt64?
    var bytesPerSecond: UInt64?
    /// A few bytes, which count only as long as nothing else is known.
    var scantBytesPerSecond: UInt64?
    var deviceBytesPerSecond: (fastest: UInt64, mean: UInt64)?
    var dirtyBytesPerSecond: UInt64 = 0
  }

  /// The best and the worst of some measurements, the worst with its allowance.
  ///
  ///     times 4, 6           4 ... 8      the distance once more
  ///     times 4, 5, 6        4 ... 7      half of it
  ///     time 4               4 ... 5      nothing to compare with: a quarter
  struct Spread: Equatable {
    var best: UInt64
    var worst: UInt64

    init(times: [UInt64]) {
      best = times.min() ?? 0
      let most = times.max() ?? 0
      worst = most.addingSaturating(Self.allowance(most - best, most, times.count))
    }

    /// The worst of speeds is the least; its allowance is one of the time that a byte takes.
    init(speeds: [UInt64]) {
      best = speeds.max() ?? 0
      let least = speeds.min() ?? 0
      // The time for a byte at the best speed, as a share of that at the worst.
      let share = UInt64(Self.whole)
      let time = best == 0 ? 0 : least.multiplied(by: share, over: best)
      let allowance = Self.allowance(share - time, share, speeds.count)
      worst = least.multiplied(by: share, over: share + allowance)
    }

    /// Beyond any noise of speeds, and far from an overflow.
    private static let whole = 1 << 32

    /// What comes on top of the worst of `count` that lie so far apart.
    private static func allowance(_ distance: UInt64, _ worst: UInt64, _ count: Int) -> UInt64 {
      count < 2 ? worst / 4 : max(distance / UInt64(count - 1), worst / 32)
    }
  }

  /// Rounds that count: a guest changes what it does.
  static let recentCountMax = 4

  private var recent: [Observation] = []
  /// The first pass: all of RAM, in long runs, into memory the destination touches for the first
  /// time. How fast it went counts only as long as nothing else is known.
  private var first: Observation?
  /// The walk of all devices that took longest, and how long it would have taken without the
  /// steps that somebody else's work fell into.
  private var slowestWalk = (whole: UInt64(0), undisturbed: UInt64(0))
  /// What the destination says of its own devices.
  private var walkThereNanoseconds: UInt64 = 0

  /// A step of a walk counts for at most so many times as long as the median one.
  private static let disturbedStepFactor: UInt64 = 4

  /// All devices changed state once.
  /// - Parameter steps: nanoseconds of each device.
  mutating func walked(_ steps: [UInt64]) {
    let whole = steps.reduce(UInt64(0)) { $0.addingSaturating($1) }
    guard whole >= slowestWalk.whole, !steps.isEmpty else { return }
    let most = steps.sorted()[steps.count / 2].multipliedReportingOverflow(
      by: Self.disturbedStepFactor)
    let undisturbed = steps.map { most.overflow ? $0 : min($0, most.partialValue) }
    slowestWalk = (
      whole: whole, undisturbed: undisturbed.reduce(UInt64(0)) { $0.addingSaturating($1) }
    )
  }

  /// - Parameter nanoseconds: what bringing all devices to RESUMING took, as it says.
  mutating func walkedThere(nanoseconds: UInt64) {
    walkThereNanoseconds = max(walkThereNanoseconds, nanoseconds)
  }

  mutating func roundEnded(_ observation: Observation) {
    guard first != nil else {
      first = observation
      return
    }
    recent.append(observation)
    if recent.count > Self.recentCountMax { recent.removeFirst() }
  }

  /// Fills in what was measured.
  func apply(to prediction: inout DowntimePrediction) {
    let syncs = Spread(times: figures { $0.syncNanoseconds })
    let answers = Spread(times: figures { $0.answerNanoseconds })
    let telling = figures { $0.bytesPerSecond }
    let speed = telling.isEmpty ? figures { $0.scantBytesPerSecond } : telling
    let speeds = Spread(speeds: speed)
    // What is dirty lies in shorter runs from round to round, each a section of its own: the last
    // pass is not as fast as the best round was, but may be as fast as the latest.
    prediction.fastest.bandwidthBytesPerSecond = speed.last ?? 0
    prediction.slowest.bandwidthBytesPerSecond = speeds.worst
    // Most devices give most of their state in the first round.
    let devices = ([first].compactMap { $0 } + recent).compactMap(\.deviceBytesPerSecond)
    prediction.fastest.deviceBytesPerSecond = devices.map(\.fastest).max() ?? 0
    prediction.slowest.deviceBytesPerSecond = devices.map(\.mean).min() ?? 0
    prediction.fastest.syncNanoseconds = syncs.best
    prediction.slowest.syncNanoseconds = syncs.worst
    // Into pre-copy and into RESUMING a device also does what the later steps need not: opens what
    // is read, has its memory. So each of the two walks of the stop is like the first at worst, and
    // one of them like that at best.
    prediction.fastest.transitionNanoseconds = slowestWalk.undisturbed
    prediction.slowest.transitionNanoseconds = slowestWalk.whole.doubled
    // `loaded`, and the word that the guest runs, before which the devices there are started: that
    // takes a walk at worst like the one to RESUMING, in which they had their memory too.
    prediction.fastest.answerNanoseconds = answers.best.doubled
    prediction.slowest.answerNanoseconds = answers.worst.doubled.addingSaturating(
      walkThereNanoseconds)
    prediction.fastest.comingBytes = coming(prediction.fastest)
    prediction.slowest.comingBytes = coming(prediction.slowest)
  }

  /// Those of the recent rounds; of the first where no recent one has any.
  private func figures(_ figure: (Observation) -> UInt64?) -> [UInt64] {
    let known = recent.compactMap(figure)
    return known.isEmpty ? [first].compactMap { $0.flatMap(figure) } : known
  }

  /// The guest writes on while it is being stopped: through a sync, which sees only what came
  /// before it, and through the walks, until its devices stand still.
  private func coming(_ pace: DowntimePrediction.Pace) -> UInt64 {
    guard let rate = (recent.last ?? first)?.dirtyBytesPerSecond else { return 0 }
    return rate.multiplied(
      by: pace.syncNanoseconds.addingSaturating(pace.transitionNanoseconds), over: 1_000_000_000)
  }
}

extension UInt64 {
  fileprivate var doubled: UInt64 { addingSaturating(self) }
}
