/// How large the windows of one container's syncs are, learned from how long its backend takes.
///
/// A backend holds a lock of its own for as long as a query takes, so while the guest runs a
/// smaller window is all that can be done for a guest that wants to map. Without a clock nothing is
/// learned and windows are as large as the backend takes.
///
/// Terms:
/// - **Fixed cost** of a call: what it takes whatever its window. type1 steps over all mappings
///   before the window in every call.
/// - **Floor**: the window below which more of a call is fixed cost than is spent on the window. A
///   smaller one spares the guest little and makes the sync many times as long.
///
/// Three windows of a size are measured before it is judged, and the least time counts: a thread
/// that was taken off its processor says nothing about the backend.
///
/// States:
///
///                too slow, or a look now and then
///     steady -----------------------------------> compared with a smaller window
///      ^  ^                                         |                   |
///      |  '----- mostly the window: goes on --------'                   | mostly fixed cost
///      |         there, or back after a look                            v
///      '---------------- mostly the window -------- compared with one twice as large <--.
///                                                                 '- mostly fixed cost -'
package struct WindowPace: Sendable {
  /// One call with its scatter aims at a millisecond.
  static let aimedNanoseconds: UInt64 = 1_000_000
  /// 512 MiB of 4 KiB pages to begin with, and 128 MiB at least: below that a call costs more than
  /// what it asks for.
  static let byteCountFirst: UInt64 = 16 << 10
  static let byteCountMin: UInt64 = 4 << 10
  static let byteCountMax: UInt64 = 256 << 20
  /// Quick steps through scattered mappings, none of which fills a window, before windows grow back
  /// to what they began with.
  static let calmStepCount = 64
  /// Steps that fill their window before its size is judged.
  static let sampleCount = 3
  /// Judgements of a size that suits before a smaller one is looked at.
  static let lookInterval = 256

  package private(set) var windowByteCountMax: UInt64
  private var floor = byteCountMin
  private var current = Sample()
  /// At another size, to compare with.
  private var other: Sample?
  /// The comparison only looks: the size was right.
  private var isLook = false
  private var judgementsUntilLook = 1
  private var calmSteps = 0

  /// The least time of the windows of one size.
  private struct Sample {
    var count = 0
    var byteCount: UInt64 = 0
    var nanoseconds = UInt64.max
    var windowByteCountMax: UInt64 = 0

    mutating func note(_ byteCount: UInt64, _ nanoseconds: UInt64, of window: UInt64) {
      count += 1
      windowByteCountMax = window
      guard nanoseconds < self.nanoseconds else { return }
      (self.byteCount, self.nanoseconds) = (byteCount, nanoseconds)
    }
  }

  package init(hasClock: Bool) {
    windowByteCountMax = hasClock ? Self.byteCountFirst : .max
  }

  /// One step asked for so many bytes of bitmap and took so long.
  package mutating func learn(byteCount: UInt64, nanoseconds: UInt64) {
    guard byteCount > 0, windowByteCountMax != .max else { return }
    guard byteCount >= windowByteCountMax / 2 else {
      return learnUnfilled(byteCount: byteCount, nanoseconds: nanoseconds)
    }
    current.note(byteCount, nanoseconds, of: windowByteCountMax)
    guard current.count == Self.sampleCount else { return }
    let sample = current
    current = Sample()
    if let other {
      self.other = nil
      guard judge(sample, other) else { return }
    }
    if sample.nanoseconds > Self.aimedNanoseconds + Self.aimedNanoseconds / 4 {
      if windowByteCountMax > floor { return compare(sample, with: fitting(sample), isLook: false) }
    } else if hasRoomForTwice(sample) {
      windowByteCountMax = min(Self.byteCountMax, windowByteCountMax * 2)
      return
    }
    judgementsUntilLook -= 1
    guard judgementsUntilLook == 0 else { return }
    judgementsUntilLook = Self.lookInterval
    compare(sample, with: max(Self.byteCountMin, windowByteCountMax / 2), isLook: true)
  }

  /// A step that found less to ask for: the end of the range, or a hole.
  private mutating func learnUnfilled(byteCount: UInt64, nanoseconds: UInt64) {
    if nanoseconds < Self.aimedNanoseconds / 2 {
      calmSteps += 1
      if calmSteps >= Self.calmStepCount, windowByteCountMax < Self.byteCountFirst {
        resize(to: windowByteCountMax * 2)
      }
    } else if nanoseconds > Self.aimedNanoseconds + Self.aimedNanoseconds / 4 {
      // Never less than a quarter at once: its thread may have been taken off its processor.
      resize(to: max(floor, windowByteCountMax / 4))
    }
  }

  private mutating func resize(to byteCount: UInt64) {
    windowByteCountMax = max(Self.byteCountMin, byteCount & ~7)
    (current, other, calmSteps) = (Sample(), nil, 0)
  }

  /// Whether a window twice as large would take the time aimed at, were none of it fixed cost. The
  /// window measured may have been half full.
  private func hasRoomForTwice(_ sample: Sample) -> Bool {
    let nanosecondsPerByte = Double(sample.nanoseconds) / Double(sample.byteCount)
    return nanosecondsPerByte * 2 * Double(windowByteCountMax) < Double(Self.aimedNanoseconds)
  }

  /// As much as would have taken the time aimed at, were none of it fixed cost.
  private func fitting(_ sample: Sample) -> UInt64 {
    let fitting = sample.byteCount / max(2, sample.nanoseconds / Self.aimedNanoseconds)
    let smaller = max(windowByteCountMax / 4, min(windowByteCountMax / 2, fitting))
    return max(floor, smaller & ~7)
  }

  private mutating func compare(_ sample: Sample, with byteCount: UInt64, isLook: Bool) {
    guard byteCount != windowByteCountMax else { return }
    (other, self.isLook, windowByteCountMax) = (sample, isLook, byteCount)
  }

  /// What two sizes say of the fixed cost.
  /// - Returns: whether the size that was measured last is the one to go on with, to be judged by
  ///   its time.
  private mutating func judge(_ last: Sample, _ before: Sample) -> Bool {
    let (small, large) = last.byteCount < before.byteCount ? (last, before) : (before, last)
    guard large.byteCount > small.byteCount else { return true }
    let more = Double(large.nanoseconds) - Double(small.nanoseconds)
    let share = Double(large.byteCount) / Double(large.byteCount - small.byteCount)
    let ofWindow = max(0, more * share)
    let fixed = Double(large.nanoseconds) - ofWindow
    if fixed > ofWindow, large.windowByteCountMax < Self.byteCountMax {
      floor = min(Self.byteCountMax, large.windowByteCountMax * 2)
      (windowByteCountMax, other) = (floor, large)
      isLook = false
      return false
    }
    guard isLook else { return true }
    isLook = false
    if floor > Self.byteCountMin, fixed < ofWindow / 2 {
      // It has become less: mappings have gone.
      floor = max(Self.byteCountMin, floor / 2)
      judgementsUntilLook = 1
    }
    windowByteCountMax = max(floor, before.windowByteCountMax)
    return false
  }
}
