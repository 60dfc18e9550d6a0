public import Addressing
import Locking

/// A vCPU of a simulated guest: it writes pages through the vCPU mapping, each with a header that
/// says which write it holds.
///
/// Invariants:
/// 1. Generations rise by one a write, over a pause and over a migration.
/// 2. When `pause` has returned no write is in progress, and the state no longer changes.
/// 3. A write is reported to `marks` after it is in memory and before the step ends: a harvest in
///    between sends the new content, and the page once more.
public final class VirtualCPU: Sendable {
  /// Unique among the guest's writers, as in `PageHeader.writer`.
  public let writer: UInt64
  public let pattern: WritePattern
  private let ram: GuestRAM
  private let marks: (@Sendable (GPARange) -> Void)?
  private let inner: Mutex<Inner>
  private let thread = Mutex<StepThread?>(nil)
  private let pagesPerSecond: UInt64

  private struct Inner: Sendable {
    var state: VirtualCPUState
    /// Header and body of the page being written.
    var words: [UInt64]
  }

  /// - Parameters:
  ///   - pagesPerSecond: 0 for as fast as it goes.
  ///   - marks: told of each write, where nothing else tracks vCPU writes.
  /// - Precondition: the pattern's pages lie in RAM.
  public init(
    writer: UInt64, ram: GuestRAM, pattern: WritePattern, seed: UInt64, pagesPerSecond: UInt64 = 0,
    marks: (@Sendable (GPARange) -> Void)? = nil
  ) {
    precondition(pattern.pages.upperBound <= ram.layout.pageCount, "pages past the guest's RAM")
    self.writer = writer
    self.ram = ram
    self.pattern = pattern
    self.marks = marks
    self.pagesPerSecond = pagesPerSecond
    let random = SplitMix64(seed: seed).derived(for: writer)
    inner = Mutex(
      Inner(
        state: VirtualCPUState(writer: writer, random: random),
        words: Array(repeating: 0, count: 4 + pattern.bodyWordCount)))
  }

  /// Writes one page. What the thread does again and again; a scheduler may call it instead.
  public func step() {
    let range = inner.withLock { inner in
      let page = choosePage(&inner.state)
      inner.state.generation &+= 1
      let gpa = ram.layout.gpa(ofPage: page)
      let header = PageHeader(
        writer: writer, generation: inner.state.generation, address: gpa.rawValue)
      for index in 0..<4 { inner.words[index] = header.words[index] }
      // Half the pages carry noise, half zeroes after the header.
      var filler = inner.state.random.next()
      let isNoise = filler & 1 == 0
      for index in 4..<inner.words.count {
        inner.words[index] = isNoise ? filler : 0
        filler = filler &* 0x2545_f491_4f6c_dd1d &+ 1
      }
      let isWritten = LittleEndian.withBytes(of: inner.words) {
        ram.writeAsVCPU($0, at: gpa)
      }
      precondition(isWritten, "a page of RAM is writable")
      return AddressRange(first: gpa, last: gpa.lastOfPage(.fourKiB))
    }
    marks?(range)
  }

  private func choosePage(_ state: inout VirtualCPUState) -> UInt64 {
    if pattern.hotPageCount != 0, state.random.below(256) < pattern.hotShare {
      return pattern.pages.lowerBound &+ state.random.below(pattern.hotPageCount)
    }
    let page = pattern.pages.lowerBound &+ state.sweep % UInt64(pattern.pages.count)
    state.sweep = (state.sweep &+ 1) % UInt64(pattern.pages.count)
    return page
  }

  // MARK: the thread

  /// Starts the thread.
  public func start() throws(GuestError) {
    try thread.withLock { (thread: inout StepThread?) throws(GuestError) in
      precondition(thread == nil, "vCPU \(writer) is started once")
      let new = StepThread(name: "vcpu-\(writer)", stepsPerSecond: pagesPerSecond) { self.step() }
      try new.start()
      thread = new
    }
  }

  /// Leaves so much less than its pace to a vCPU that has one.
  /// - Precondition: `percent` is 0 to 99.
  public func throttle(percent: Int) {
    precondition((0...99).contains(percent), "a share of 0 to 99 %")
    guard pagesPerSecond != 0 else { return }
    current?.stepsPerSecond = max(pagesPerSecond * UInt64(100 - percent) / 100, 1)
  }

  /// When this returns no write is in progress, and none begins before `resume`. Does nothing to a
  /// vCPU that was not started.
  public func pause() { current?.pause() }
  public func resume() { current?.resume() }

  /// Ends the thread; the state stays.
  public func stop() {
    let ended = thread.withLock { $0.take() }
    ended?.stop()
  }

  private var current: StepThread? { thread.withLock { $0 } }

  // MARK: state

  /// What must arrive at the destination; final once paused.
  public var state: VirtualCPUState { inner.withLock { $0.state } }

  /// Goes on from the source's state.
  /// - Throws: `GuestError.vcpuState` when the bytes are not this vCPU's state; nothing changes.
  public func restore(_ bytes: [UInt8]) throws(GuestError) {
    let state = try VirtualCPUState(decoding: bytes, writer: writer)
    inner.withLock { $0.state = state }
  }
}
