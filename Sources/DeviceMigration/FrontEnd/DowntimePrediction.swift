/// How long the guest would stand still if it was stopped now: in parts, and as a range.
///
///     61-74 ms     by the best of the recent rounds, and by the worst of them with an allowance
///
/// The stop decision goes by the upper end, so that a downtime that was promised is kept. Where one
/// figure is wanted it lies at a third: a guest that stands still is no longer in the way, so the
/// stop is nearer to the best of the rounds than to the worst.
public struct DowntimePrediction: Sendable, Hashable {
  /// How fast things go. Measured in recent rounds.
  public struct Pace: Sendable, Hashable {
    /// To the destination. 0: nothing was sent yet.
    public var bandwidthBytesPerSecond: UInt64 = 0
    /// At which devices give what is then sent. 0: not known, and left out.
    public var deviceBytesPerSecond: UInt64 = 0
    public var syncNanoseconds: UInt64 = 0
    /// Two walks of all devices, to P2P and to STOP_COPY.
    public var transitionNanoseconds: UInt64 = 0
    /// Two questions to the destination, and its two walks of the devices. 0 one-way.
    public var answerNanoseconds: UInt64 = 0
    /// Written between the sync that was measured and the stop. Bytes.
    public var comingBytes: UInt64 = 0

    public init() {}
  }

  /// Dirty pages in the log. Bytes.
  public var dirtyBytes: UInt64 = 0
  /// Pinned pages kept back for stop-and-copy. Bytes.
  public var heldBackBytes: UInt64 = 0
  /// State the devices say they will give. Bytes.
  public var deviceBytes: UInt64 = 0
  /// Devices that do not say: with any, the prediction is a lower bound.
  public var devicesWithoutEstimate: [String] = []
  public var fastest = Pace()
  public var slowest = Pace()

  public init() {}

  /// One pace for both ends.
  public init(_ pace: Pace) {
    fastest = pace
    slowest = pace
  }

  public var isLowerBound: Bool { !devicesWithoutEstimate.isEmpty }

  /// What stands before the total: `~`, or `>` where it is a lower bound.
  public var mark: String { isLowerBound ? ">" : "~" }

  /// `61-74 ms`, `~12 ms`, `at least 12 ms (nic0 does not say how much it holds)`, `unknown`.
  public var sentence: String {
    let (low, high) = (lowNanoseconds / 1_000_000, highNanoseconds / 1_000_000)
    guard highNanoseconds < UInt64.max else { return "unknown: nothing has been measured" }
    guard isLowerBound else { return low == high ? "~\(low) ms" : "\(low)-\(high) ms" }
    let names = devicesWithoutEstimate.joined(separator: ", ")
    let verb = devicesWithoutEstimate.count == 1 ? "does" : "do"
    return "at least \(low) ms (\(names) \(verb) not say how much state is left)"
  }

  public var byteCount: UInt64 {
    dirtyBytes.addingSaturating(heldBackBytes).addingSaturating(deviceBytes)
  }

  /// Dirty and pinned pages, and those to come.
  public func pageNanoseconds(_ pace: Pace) -> UInt64 {
    let pages = dirtyBytes.addingSaturating(heldBackBytes).addingSaturating(pace.comingBytes)
    return Self.nanoseconds(pages, pace.bandwidthBytesPerSecond)
  }

  /// Reading devices, and sending what was read.
  /// - Parameter overlaps: they are read while pages are still on their way, and only what that
  ///   takes longer than the pages counts.
  public func deviceNanoseconds(_ pace: Pace, overlaps: Bool) -> UInt64 {
    let sending = Self.nanoseconds(deviceBytes, pace.bandwidthBytesPerSecond)
    guard pace.deviceBytesPerSecond > 0 else { return sending }
    let reading = Self.nanoseconds(deviceBytes, pace.deviceBytesPerSecond)
    let hidden = overlaps ? min(reading, pageNanoseconds(pace)) : 0
    return sending.addingSaturating(reading - hidden)
  }

  /// The parts, each by itself: pages, devices, sync, walks, answers.
  private func parts(_ pace: Pace, overlaps: Bool) -> [UInt64] {
    [
      pageNanoseconds(pace), deviceNanoseconds(pace, overlaps: overlaps), pace.syncNanoseconds,
      pace.transitionNanoseconds, pace.answerNanoseconds,
    ]
  }

  /// At best and at worst.
  private var ends: Zip2Sequence<[UInt64], [UInt64]> {
    zip(parts(fastest, overlaps: true), parts(slowest, overlaps: false))
  }

  public var lowNanoseconds: UInt64 {
    ends.reduce(0) { $0.addingSaturating(min($1.0, $1.1)) }
  }

  /// What goes wrong in one part does not go wrong in all of them at once: what the slow ends are
  /// above the fast ones adds up as distances at right angles do.
  public var highNanoseconds: UInt64 {
    let low = lowNanoseconds
    var squares = 0.0
    for (fast, slow) in ends {
      guard max(fast, slow) < UInt64.max else { return UInt64.max }
      squares += Double(slow - min(fast, slow)) * Double(slow - min(fast, slow))
    }
    return low.addingSaturating(UInt64(exactly: squares.squareRoot().rounded(.up)) ?? UInt64.max)
  }

  /// The one figure. The longest there is where nothing has been measured.
  public var totalNanoseconds: UInt64 {
    let (low, high) = (lowNanoseconds, highNanoseconds)
    return high == UInt64.max ? high : low + (high - low) / 3
  }

  /// Time to move `bytes` at so many in a second; the longest there is when that is 0.
  private static func nanoseconds(_ bytes: UInt64, _ bytesPerSecond: UInt64) -> UInt64 {
    guard bytes > 0 else { return 0 }
    return bytes.multiplied(by: 1_000_000_000, over: bytesPerSecond)
  }
}
