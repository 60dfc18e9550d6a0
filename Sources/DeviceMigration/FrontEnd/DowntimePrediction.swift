/// How long the guest would stand still if it was stopped now, in parts.
public struct DowntimePrediction: Sendable, Hashable {
  /// Dirty pages in the log. Bytes.
  public var dirtyBytes: UInt64 = 0
  /// Pinned pages kept back for stop-and-copy. Bytes.
  public var heldBackBytes: UInt64 = 0
  /// State the devices say they will give. Bytes.
  public var deviceBytes: UInt64 = 0
  /// Devices that do not say: with any, the prediction is a lower bound.
  public var devicesWithoutEstimate: [String] = []
  /// Measured. 0: nothing was sent yet.
  public var bandwidthBytesPerSecond: UInt64 = 0
  /// What the last sync took. Measured.
  public var syncNanoseconds: UInt64 = 0
  /// Two walks of all devices, each taken to be like the slowest walk seen so far.
  public var transitionNanoseconds: UInt64 = 0
  /// Two questions to the destination, each taken to be like the first. 0 one-way.
  public var answerNanoseconds: UInt64 = 0

  public init() {}

  public var isLowerBound: Bool { !devicesWithoutEstimate.isEmpty }

  public var byteCount: UInt64 {
    Self.sum(Self.sum(dirtyBytes, heldBackBytes), deviceBytes)
  }

  /// Time to move `bytes` at the measured bandwidth; the longest there is when nothing is measured.
  public func transferNanoseconds(_ bytes: UInt64) -> UInt64 {
    guard bytes > 0 else { return 0 }
    guard bandwidthBytesPerSecond > 0 else { return UInt64.max }
    let (high, low) = bytes.multipliedFullWidth(by: 1_000_000_000)
    guard high < bandwidthBytesPerSecond else { return UInt64.max }
    return bandwidthBytesPerSecond.dividingFullWidth((high, low)).quotient
  }

  /// All parts.
  public var totalNanoseconds: UInt64 {
    let fixed = Self.sum(Self.sum(syncNanoseconds, transitionNanoseconds), answerNanoseconds)
    return Self.sum(transferNanoseconds(byteCount), fixed)
  }

  private static func sum(_ left: UInt64, _ right: UInt64) -> UInt64 {
    let (sum, overflow) = left.addingReportingOverflow(right)
    return overflow ? UInt64.max : sum
  }
}

/// How long the guest stood still, in parts. Nanoseconds, and bytes where something was sent.
public struct DowntimeMeasured: Sendable, Hashable {
  public var stopVCPUsNanoseconds: UInt64 = 0
  /// All devices to P2P.
  public var p2pNanoseconds: UInt64 = 0
  /// All devices to STOP_COPY.
  public var stopCopyNanoseconds: UInt64 = 0
  public var finalSyncNanoseconds: UInt64 = 0
  public var pagesNanoseconds: UInt64 = 0
  public var pagesBytes: UInt64 = 0
  public var deviceNanoseconds: UInt64 = 0
  public var deviceBytes: UInt64 = 0
  /// Configuration of devices, machine state, totals.
  public var stateNanoseconds: UInt64 = 0
  /// Until the destination said that everything is loaded. 0 one-way.
  public var loadedNanoseconds: UInt64 = 0
  /// From the word to start until the destination said that the guest runs. 0 one-way.
  public var startNanoseconds: UInt64 = 0
  /// From the stop of vCPUs to the last word, all parts and what lies between them.
  public var totalNanoseconds: UInt64 = 0

  public init() {}
}

/// Bytes that went out, against the time it took; older rounds count half of newer ones.
struct BandwidthMeter {
  private var bytes: UInt64 = 0
  private var nanoseconds: UInt64 = 0

  mutating func add(bytes more: UInt64, nanoseconds time: UInt64) {
    bytes &+= more
    nanoseconds &+= time
  }

  /// A new round begins.
  mutating func age() {
    // A little is no measurement; it stays as it is until there is more.
    guard bytes >= 1 << 20 else { return }
    bytes /= 2
    nanoseconds /= 2
  }

  /// 0 when nothing was measured.
  var bytesPerSecond: UInt64 {
    guard bytes > 0 else { return 0 }
    let (high, low) = bytes.multipliedFullWidth(by: 1_000_000_000)
    let time = max(nanoseconds, 1)
    return high >= time ? UInt64.max : time.dividingFullWidth((high, low)).quotient
  }
}
