/// Which figures of one device can be believed. Firmware has answered 2^64 - 843575 initial bytes;
/// a stop that waits for such a figure to reach 0 never comes.
///
/// A figure that cannot be true counts as one the device does not say:
/// 1. one above ``byteCountMax``: no device holds that much;
/// 2. one that rose by more than the device can have moved since the last question;
/// 3. initial bytes that did not fall for ``stalledRoundCountMax`` rounds: a device that gives
///    nothing for them, or says the same whatever it gave. A device that says that its initial data
///    began again is given ``restartCountMax`` times as long.
///
/// A value: the same questions at the same times give the same answers.
public struct DeviceSizeJudge: Sendable, Hashable {
  public enum Figure: String, Sendable, Hashable, CaseIterable, CustomStringConvertible {
    case initial = "initial bytes"
    case dirty = "dirty bytes"
    case stopCopy = "bytes of stop-and-copy"
    public var description: String { rawValue }
  }

  /// Why a figure is not believed.
  public enum Reason: Sendable, Hashable {
    case tooLarge
    /// It was `before` at the last question, `nanoseconds` ago.
    case rose(before: UInt64, nanoseconds: UInt64)
    case neverFell(rounds: Int)
  }

  /// A figure that is not believed, told once for each figure and kind of reason.
  public struct Doubt: Sendable, Hashable {
    public let figure: Figure
    public let bytes: UInt64
    public let reason: Reason

    /// A whole sentence without full stop.
    public func sentence(device: String) -> String {
      let why =
        switch reason {
        case .tooLarge: "more than any device holds"
        case .rose(let before, let nanoseconds):
          "\(bytes - before) more than \(nanoseconds) ns before, which no device can have moved"
        case .neverFell(let rounds): "which did not fall in \(rounds) rounds"
        }
      return "device \(device) claims \(bytes) \(figure), \(why): it counts as not saying, and the "
        + "stop does not wait for it"
    }
  }

  /// 256 TiB. A figure above it, and so every one above 2^63, is an error of the device.
  public static let byteCountMax: UInt64 = 1 << 48
  /// 16 TiB in a second: above what the memory of any device takes, not only its bus.
  public static let bytesPerNanosecondMax: UInt64 = 17_593
  /// Of rounding, and of what lies between the device's look and ours. Bytes.
  public static let riseAllowedBytes: UInt64 = 64 << 20
  public static let stalledRoundCountMax = 3
  public static let restartCountMax = 16

  private struct Belief: Sendable, Hashable {
    var bytes: UInt64
    var askedAt: UInt64
  }

  private struct Told: Sendable, Hashable {
    let figure: Figure
    let kind: Int
  }

  private var beliefs: [Figure: Belief] = [:]
  private var told: Set<Told> = []
  private var lowestInitialBytes = UInt64.max
  private var stalledRounds = 0
  private var restartCount = 0
  /// What is to be said, in order; whoever says it empties it.
  public var doubts: [Doubt] = []

  public init() {}

  /// The estimate without the figures that cannot be true.
  public mutating func judge(
    _ estimate: PendingEstimate, atNanoseconds now: UInt64
  ) -> PendingEstimate {
    if estimate.initialDataRestarted { initialDataRestarted() }
    return PendingEstimate(
      precopyInitialBytes: initial(estimate.precopyInitialBytes, now),
      precopyDirtyBytes: believed(.dirty, estimate.precopyDirtyBytes, now),
      stopCopyBytes: believed(.stopCopy, estimate.stopCopyBytes, now),
      initialDataRestarted: estimate.initialDataRestarted)
  }

  /// A round has ended, and `initialBytes` were left: whether the device comes nearer to its stop.
  public mutating func roundEnded(initialBytes: UInt64?) {
    // What is not believed stays so until it falls.
    guard let initialBytes else { return }
    if initialBytes > 0, initialBytes >= lowestInitialBytes {
      stalledRounds += 1
    } else {
      stalledRounds = 0
      lowestInitialBytes = initialBytes
    }
  }

  /// The device said so, in whichever answer: it may say it once.
  public mutating func initialDataRestarted() {
    restartCount += 1
    guard restartCount <= Self.restartCountMax else { return }
    // New initial data: whatever there was before says nothing about it.
    beliefs[.initial] = nil
    beliefs[.dirty] = nil
    lowestInitialBytes = .max
    stalledRounds = 0
  }

  private mutating func initial(_ bytes: UInt64?, _ now: UInt64) -> UInt64? {
    guard let bytes = believed(.initial, bytes, now) else { return nil }
    let falls = bytes == 0 || bytes < lowestInitialBytes
    guard falls || stalledRounds < Self.stalledRoundCountMax else {
      doubt(.initial, bytes, .neverFell(rounds: stalledRounds), kind: 2)
      return nil
    }
    return bytes
  }

  private mutating func believed(
    _ figure: Figure, _ bytes: UInt64?, _ now: UInt64
  ) -> UInt64? {
    guard let bytes else { return nil }
    guard bytes <= Self.byteCountMax else {
      doubt(figure, bytes, .tooLarge, kind: 0)
      return nil
    }
    if let last = beliefs[figure] {
      let elapsed = now &- min(last.askedAt, now)
      let (moved, overflow) = elapsed.multipliedReportingOverflow(by: Self.bytesPerNanosecondMax)
      // Both sides are far below 2^64 where nothing overflowed.
      let allowed = overflow ? UInt64.max : max(moved, Self.riseAllowedBytes)
      if bytes > last.bytes, bytes - last.bytes > allowed {
        doubt(figure, bytes, .rose(before: last.bytes, nanoseconds: elapsed), kind: 1)
        return nil
      }
    }
    beliefs[figure] = Belief(bytes: bytes, askedAt: now)
    return bytes
  }

  private mutating func doubt(_ figure: Figure, _ bytes: UInt64, _ reason: Reason, kind: Int) {
    guard told.insert(Told(figure: figure, kind: kind)).inserted else { return }
    doubts.append(Doubt(figure: figure, bytes: bytes, reason: reason))
  }
}
