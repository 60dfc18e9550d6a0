public import GuestDirtyLog

/// One pre-copy round, or the last pass with the guest stopped.
public struct MigrationRound: Sendable, Hashable {
  /// From 1. The pass of stop-and-copy comes last.
  public var number = 0
  public var isFinal = false
  /// Of a page of the dirty log.
  public var pageByteCount: UInt64 = 4096
  /// Dirty when it began. Bytes.
  public var remainingBytesAtBegin: UInt64 = 0
  /// Dirty when it ended, after its sync. Bytes.
  public var remainingBytesAtEnd: UInt64 = 0
  /// Pages sent with content, and as runs of zeroes.
  public var contentPages: UInt64 = 0
  public var zeroPages: UInt64 = 0
  /// Bytes of the stream, everything counted.
  public var sentBytes: UInt64 = 0
  public var deviceBytes: UInt64 = 0
  public var nanoseconds: UInt64 = 0
  /// Of its sync: in a round the one that ends it, in the last pass the final one.
  public var syncNanoseconds: UInt64 = 0
  /// Calls to containers and their logs that its sync made.
  public var backendCallCount = 0
  /// Calls for the guest's maps and unmaps meanwhile.
  public var mappingCallCount = 0
  /// Newly dirty pages since the round began, by who said so.
  public var dirtiedPages: [DirtySource: UInt64] = [:]
  /// Of its pages, until the last of them had arrived; where it sent too few to tell, that of the
  /// round before.
  public var bandwidthBytesPerSecond: UInt64 = 0
  public var sync = SyncReport()
  /// Nil in the last pass.
  public var prediction: DowntimePrediction?

  public init() {}

  /// Newly dirty pages of all sources, per second of the round. Bytes.
  public var dirtyRateBytesPerSecond: UInt64 {
    let pages = dirtiedPages.values.reduce(0, &+)
    // A log has at most 2^40 pages of 4 KiB.
    return (pages &* pageByteCount).multiplied(by: 1_000_000_000, over: max(nanoseconds, 1))
  }
}

/// Everything a migration can say about itself afterwards.
public struct MigrationReport: Sendable {
  public struct Device: Sendable, Hashable {
    public var name: String
    public var interface: MigrationInterface
    /// In the order they were seen.
    public var states: [DeviceState] = []
    public var precopyBytes: UInt64 = 0
    public var stopCopyBytes: UInt64 = 0
    public var chunks: UInt64 = 0
    public var configurationBytes = 0
  }

  public var status = MigrationStatus.none
  public var rounds: [MigrationRound] = []
  public var devices: [Device] = []
  /// The limit of the policy.
  public var downtimeLimitNanoseconds: UInt64 = 0
  /// Most of their time that was taken from the vCPUs. Percent.
  public var throttledPercentMax = 0
  /// How long the guest stood still in stops that did not go through, because a device had new
  /// initial data.
  public var returnedNanoseconds: UInt64 = 0
  /// The one the guest was stopped on.
  public var prediction: DowntimePrediction?
  public var downtime = DowntimeMeasured()
  /// Why the guest was stopped when it was.
  public var stopReason: MigrationDecision?
  public var totalNanoseconds: UInt64 = 0
  public var totals = StreamTotals()
  public var streamBytes: UInt64 = 0
  /// Calls to containers and their logs: those of starts, syncs and the stop.
  public var backendCallCount = 0
  /// Those for the guest's maps and unmaps.
  public var mappingCallCount = 0
  /// Pages put back after sends that failed and were made again.
  public var pagesPutBack: UInt64 = 0
  public var pagesBySource: [DirtySource: UInt64] = [:]
  /// What is not exact or went wrong on the way, a sentence each, without repeats.
  public var notes: [String] = []

  public init() {}

  /// By how much the downtime missed the limit; nil where it did not, or nothing was measured.
  public var overLimitNanoseconds: UInt64? {
    let total = downtime.totalNanoseconds
    return total > downtimeLimitNanoseconds ? total - downtimeLimitNanoseconds : nil
  }

  /// Longest run of rounds at the end in which the prediction did not fall.
  public var roundsWithoutProgress: Int {
    var best = UInt64.max
    var stalled = 0
    for round in rounds {
      guard let total = round.prediction?.totalNanoseconds else { continue }
      stalled = total < best ? 0 : stalled + 1
      best = min(best, total)
    }
    return stalled
  }
}

/// What comes after a round.
public enum MigrationDecision: Hashable, Sendable, CustomStringConvertible {
  case anotherRound
  /// The predicted downtime is within the limit, at worst.
  case stop
  /// A lower bound of the downtime is within the limit, and the policy lets it decide.
  case stopOnLowerBound
  /// The rounds are used up and the policy says so.
  case stopAnyway(rounds: Int)
  case giveUp(rounds: Int)

  public var description: String {
    switch self {
    case .anotherRound: "another round"
    case .stop: "stop: the predicted downtime is within the limit"
    case .stopOnLowerBound:
      "stop: the downtime is within the limit as far as the devices say what they hold"
    case .stopAnyway(let rounds): "stop anyway after \(rounds) rounds"
    case .giveUp(let rounds): "give up after \(rounds) rounds"
    }
  }

  /// After round `rounds`.
  /// - Parameters:
  ///   - stalledRounds: those at the end that brought no progress.
  ///   - waitsForInitialData: a device has data of its first pass left.
  public static func after(
    rounds: Int, stalledRounds: Int = 0, _ prediction: DowntimePrediction,
    waitsForInitialData: Bool, policy: MigrationPolicy
  ) -> MigrationDecision {
    if !waitsForInitialData, rounds >= policy.roundCountMin,
      prediction.highNanoseconds <= policy.downtimeLimitNanoseconds
    {
      guard prediction.isLowerBound else { return .stop }
      if policy.unknownDeviceSize == .lowerBoundDecides { return .stopOnLowerBound }
    }
    let isStalled = stalledRounds >= policy.stalledRoundCountMax
    switch policy.notConverging {
    case .stopAnyway(let limit) where rounds >= limit || isStalled:
      return .stopAnyway(rounds: rounds)
    case .giveUp(let limit) where rounds >= limit || isStalled: return .giveUp(rounds: rounds)
    default: return .anotherRound
    }
  }
}
