public import Addressing
import Locking

/// The dirty log that the front-end hands over and reads: bit n is the page of 4096 bytes at GPA
/// n * 4096.
///
/// Any thread may mark. The front-end takes words out by exchange whenever it syncs, and tells
/// nobody; it replaces the log with SET_LOG_BASE, when memory was plugged in or a device started,
/// and lays it down when it has stopped the device.
///
/// Example: page 0x1234 is word 0x48, bit 52. `mark(GPA 0x1234000-0x1234fff)` sets it with one OR.
///
/// Invariants:
/// 1. When a mark has returned without an error, its bits were set in the log that was current at
///    some moment of the call.
/// 2. When `replace` has returned, nobody writes the old log any more, and it is unmapped.
/// 3. A page that could not be marked is an error that names it; what of the range lies inside the
///    log has been marked all the same.
/// 4. No mark allocates, and the lock is held for 4096 words of bits at a time (1 GiB of guest), so
///    that one long mark keeps neither the others nor a replacement waiting.
public final class SharedDirtyLog: Sendable {
  /// Words of the log that are changed under the lock at once.
  static let stepWordCount = 4096
  private static let stepPageCount = UInt64(stepWordCount * 64)

  private struct State: ~Copyable {
    var log = MappedLog()
    /// Logs so far, the present one included.
    var epoch: UInt64 = 0
  }

  private let state = Mutex(State())
  private let acceptsUnsealed: Bool

  /// - Parameter acceptsUnsealed: takes logs whose file can shrink. A front-end that shrinks it
  ///   ends this process (SIGBUS). QEMU seals its log.
  init(acceptsUnsealed: Bool = false) { self.acceptsUnsealed = acceptsUnsealed }

  /// Pages the present log has bits for, from GPA 0 on; 0 when there is no log.
  public var pageCount: UInt64 { state.withLock { $0.log.pageCount } }

  /// Logs that were handed over so far.
  public var epoch: UInt64 { state.withLock { $0.epoch } }

  /// Marks every page that `range` touches.
  public func mark(_ range: GPARange) throws(VhostUserError) {
    let last = range.last.rawValue &>> 12
    var first = range.first.rawValue &>> 12
    while true {
      let stepLast = min(last, first | (Self.stepPageCount - 1))
      try state.withLock { (state: inout State) throws(VhostUserError) in
        let end = state.log.pageCount
        if first < end { state.log.set(first, through: min(stepLast, end - 1)) }
        guard stepLast < end else {
          throw Self.lost(max(first, end), through: last, logPageCount: end)
        }
      }
      if stepLast == last { return }
      first = stepLast + 1
    }
  }

  /// Marks the page at `first` + n * 4096 for each bit n that is set. An error names the pages from
  /// the first lost one to the last lost one of the step that met them; the words after that step
  /// are marked as far as they lie in the log.
  /// - Precondition: every bit stands for a page below 2^64.
  public func mark(_ words: Span<UInt64>, from first: GPA) throws(VhostUserError) {
    let page = first.rawValue &>> 12
    precondition(UInt64(words.count) <= ((1 << 52) - page) / 64, "more bits than pages")
    var failure: VhostUserError?
    var index = 0
    while index < words.count {
      let end = min(words.count, index + Self.stepWordCount)
      let part = words.extracting(index..<end)
      do throws(VhostUserError) {
        try merge(part, at: page + UInt64(index) * 64)
      } catch {
        failure = failure ?? error
      }
      index = end
    }
    if let failure { throw failure }
  }

  private func merge(_ words: Span<UInt64>, at page: UInt64) throws(VhostUserError) {
    let end = state.withLock { (state: inout State) -> UInt64 in
      let end = state.log.pageCount
      let inside = end > page ? min(UInt64(words.count) * 64, end - page) : 0
      if inside > 0 { state.log.merge(words, at: page, bitCount: inside) }
      return end
    }
    guard let lost = Self.bits(words, from: end > page ? end - page : 0) else { return }
    throw Self.lost(page + lost.first, through: page + lost.last, logPageCount: end)
  }

  /// The first and the last set bit of those from bit `start` on.
  private static func bits(
    _ words: Span<UInt64>, from start: UInt64
  ) -> (first: UInt64, last: UInt64)? {
    guard start < UInt64(words.count) * 64 else { return nil }
    var found: (first: UInt64, last: UInt64)?
    for index in Int(start / 64)..<words.count {
      var word = words[index]
      if index == Int(start / 64) { word &= ~0 &<< (start & 63) }
      if word == 0 { continue }
      let base = UInt64(index) * 64
      let last = base + 63 - UInt64(word.leadingZeroBitCount)
      found = (found?.first ?? base + UInt64(word.trailingZeroBitCount), last)
    }
    return found
  }

  private static func lost(
    _ first: UInt64, through last: UInt64, logPageCount: UInt64
  ) -> VhostUserError {
    let range = GPARange(first: GPA(first &<< 12), last: GPA(last &<< 12 | 0xfff))
    return logPageCount == 0 ? .noLog(range) : .pastLog(range, logPageCount: logPageCount)
  }

  /// Takes the old log away, then puts one in its place. When that cannot be used there is none.
  func replace(
    with description: LogDescription, of descriptor: Int32
  ) throws(VhostUserError) {
    try state.withLock { (state: inout State) throws(VhostUserError) in
      state.log = MappedLog()
      state.log = try MappedLog(
        description, of: descriptor, acceptsUnsealed: acceptsUnsealed)
      state.epoch += 1
    }
  }

  /// Takes the log away: what is marked from here on is an error.
  func close() { state.withLock { $0.log = MappedLog() } }
}
