import Addressing
import PageBitmap
import Locking

/// One region with its lock. Work that may be long takes the lock for a few blocks at a time, so
/// that a mark never waits for the whole of it.
final class RegionLog: Sendable {
  let region: RAMRegion
  /// Tells a region from another one that stood at the same GPA before.
  let serial: UInt64
  /// GPA in pages.
  let firstPage: UInt64
  let pageCount: UInt64
  let blockCount: Int
  let limits: HoldLimits
  let journal: (any DirtyLogJournal)?
  let state: Mutex<RegionState>

  var lastPage: UInt64 { firstPage &+ (pageCount &- 1) }

  /// - Parameter consumers: those there are; everything is dirty for them.
  init(
    _ region: RAMRegion, serial: UInt64, pageSize: PageSize, allocator: any BitmapAllocator,
    consumers: [ConsumerID], limits: HoldLimits, journal: (any DirtyLogJournal)?
  ) throws(PageBitmapError) {
    self.region = region
    self.serial = serial
    self.limits = limits
    self.journal = journal
    firstPage = region.gpa.first.rawValue &>> pageSize.shift
    pageCount = region.gpa.pageCount(pageSize)
    let main = try PageBitmap(pageCount: pageCount, pageSize: pageSize, allocator: allocator)
    blockCount = main.blockCount
    var state = RegionState(pageCount: pageCount, main: main, allocator: allocator)
    for consumer in consumers { try state.addShare(consumer) }
    if !consumers.isEmpty { _ = state.main.insert(first: 0, last: pageCount &- 1) }
    self.state = Mutex(state)
  }

  func withState<R, E: Error>(
    _ body: (inout sending RegionState) throws(E) -> sending R
  ) throws(E) -> sending R {
    try state.withLock(body)
  }

  /// Calls `body` for all blocks, a few under each hold of the lock.
  @discardableResult
  func forEachHold(_ body: (inout sending RegionState, Range<Int>) -> MarkCount) -> MarkCount {
    forEachHold(in: 0..<blockCount, body)
  }

  /// The same for some blocks, at least one.
  func forEachHold(
    in blocks: Range<Int>, _ body: (inout sending RegionState, Range<Int>) -> MarkCount
  ) -> MarkCount {
    var count = MarkCount()
    var block = blocks.lowerBound
    while true {
      let end = min(block &+ limits.blockCount, blocks.upperBound)
      if limits.omittedHold.map({ $0 &* limits.blockCount != block }) ?? true {
        count += state.withLock { body(&$0, block..<end) }
      }
      block = end
      guard block < blocks.upperBound else { return count }
      limits.between?()
    }
  }

  /// Marks pages by index in the region.
  func mark(
    first: UInt64, last: UInt64, by source: DirtySource, at place: JournalPlace
  ) -> MarkCount {
    var count = MarkCount()
    var page = first
    while true {
      let end = holdEnd(page, last)
      count += state.withLock { state in
        let marked =
          state.copied.isEmpty
          ? state.mark(first: page, last: end, by: source)
          : state.replayMark(first: page, last: end, by: source, at: place)
        settleOrder(page, end, by: source, at: place, &state)
        return marked
      }
      guard end < last else { return count }
      limits.between?()
      page = end &+ 1
    }
  }

  /// Marks pages by index in the region, or holds them back.
  func mark(
    first: UInt64, last: UInt64, into target: GuestDirtyLog.Target, at place: JournalPlace
  ) -> MarkCount {
    switch target {
    case .log(let source): mark(first: first, last: last, by: source, at: place)
    case .heldBack(let holder): holdBack(first: first, last: last, for: holder)
    }
  }

  private func holdBack(first: UInt64, last: UInt64, for holder: HolderID) -> MarkCount {
    var count = MarkCount()
    var page = first
    while true {
      let end = holdEnd(page, last)
      let pages = end &- page &+ 1
      let held = state.withLock { state -> MarkCount? in
        if state.isGone { return MarkCount(outsidePages: pages) }
        guard let next = state.heldNext(of: holder) else { return nil }
        _ = next.bits.insert(first: page, last: end)
        return MarkCount(dirtyPages: pages)
      }
      // No memory to hold it back: it goes to the log now, which is a page too many, not too few.
      // A replay has the memory: for it the mark is an entry of its own.
      count +=
        held
        ?? mark(
          first: page, last: end, by: .conservative(holder.container), at: .ofItsOwn)
      guard end < last else { return count }
      limits.between?()
      page = end &+ 1
    }
  }

  /// Merges bits of `words` from `bit` on into the pages from `page` on.
  func merge(
    _ words: Span<UInt64>, bit: UInt64, bitCount: UInt64, at page: UInt64, by source: DirtySource,
    _ place: JournalPlace
  ) -> MarkCount {
    var count = MarkCount()
    var done: UInt64 = 0
    while done < bitCount {
      let first = page &+ done
      let length = holdEnd(first, page &+ (bitCount &- 1)) &- first &+ 1
      count += state.withLock { state in
        if state.isGone || state.shares.isEmpty {
          let pages = words.population(bit: bit &+ done, count: length)
          return state.isGone ? MarkCount(outsidePages: pages) : MarkCount(dirtyPages: pages)
        }
        let merged = state.main.mergeCounting(
          words: words, bitOffset: bit &+ done, bitCount: length, at: first)
        state.counts.add(merged.newlyDirtyPages, by: source)
        settleOrder(first, first &+ (length &- 1), by: source, at: place, &state)
        return MarkCount(
          dirtyPages: merged.dirtyPages, newlyDirtyPages: merged.newlyDirtyPages)
      }
      done &+= length
      if done < bitCount { limits.between?() }
    }
    return count
  }

  /// The last page, `last` at most, of what one hold of the lock covers from `page` on.
  private func holdEnd(_ page: UInt64, _ last: UInt64) -> UInt64 {
    let pages = UInt64(limits.blockCount) &* PageBitmap.pagesPerBlock
    return min(last, page / pages &* pages &+ (pages &- 1))
  }
}

extension Span<UInt64> {
  /// Set bits among `count` from `bit` on, which lie in the span.
  func population(bit: UInt64, count: UInt64) -> UInt64 {
    guard count != 0 else { return 0 }
    let last = bit &+ (count &- 1)
    var found: UInt64 = 0
    for index in Int(bit &>> 6)...Int(last &>> 6) {
      var bits = self[index]
      if index == Int(bit &>> 6) { bits &= UInt64.max &<< (bit & 63) }
      if index == Int(last &>> 6) { bits &= UInt64.max &>> (63 &- (last & 63)) }
      found &+= UInt64(bits.nonzeroBitCount)
    }
    return found
  }
}
