import PageBitmap

/// The dirty pages of one region, by index from its first page.
///
/// Terms:
/// - **main**: pages dirty for every consumer. Marks touch nothing else, however many consumers
///   there are.
/// - **own**, of a consumer: pages dirty for it, of which main may know as well. What is dirty for
///   a consumer is main and its own together.
///
/// Invariants:
/// 1. Without a consumer main is clean. A consumer that is alone has no own bitmap.
/// 2. A page in the own bitmaps of all consumers is in main: so a page that main finds clean is
///    clean for at least one of them.
struct RegionState: ~Copyable {
  var main: PageBitmap
  var shares: [ConsumerShare] = []
  var held: [HeldPages] = []
  var counts = SourceCounts()
  /// The region has been removed; whoever still holds it marks nothing.
  var isGone = false
  let allocator: any BitmapAllocator

  init(pageCount: UInt64, main: consuming PageBitmap, allocator: any BitmapAllocator) {
    self.main = main
    self.allocator = allocator
  }

  func cleanPages() throws(PageBitmapError) -> Pages {
    Pages(
      try PageBitmap(pageCount: main.pageCount, pageSize: main.pageSize, allocator: allocator))
  }

  func share(of consumer: ConsumerID) -> ConsumerShare? {
    for share in shares where share.consumer == consumer { return share }
    return nil
  }

  mutating func mark(first: UInt64, last: UInt64, by source: DirtySource) -> MarkCount {
    let pages = last &- first &+ 1
    if isGone { return MarkCount(outsidePages: pages) }
    guard !shares.isEmpty else { return MarkCount(dirtyPages: pages) }
    let newly = main.insert(first: first, last: last)
    counts.add(newly, by: source)
    return MarkCount(dirtyPages: pages, newlyDirtyPages: newly)
  }

  func isClean(for consumer: ConsumerID) -> Bool {
    guard let share = share(of: consumer) else { return true }
    return main.isEmpty && share.own?.bits.isEmpty ?? true
  }

  func dirtyCount(for consumer: ConsumerID) -> UInt64 {
    guard let share = share(of: consumer) else { return 0 }
    var count = main.dirtyCount
    guard let own = share.own else { return count }
    own.bits.forEachDirtyWord(blocks: 0..<own.bits.blockCount) { index, bits in
      count &+= UInt64((bits & ~main.word(index)).nonzeroBitCount)
    }
    return count
  }

  /// The first run dirty for the consumer that reaches `page` or what follows, cut after `limit`
  /// pages.
  func nextRun(of share: ConsumerShare, from page: UInt64, limit: UInt64) -> PageRun? {
    let ofMain = main.nextRun(from: page, pageCountMax: limit)
    guard let own = share.own else { return ofMain }
    let ofOwn = own.bits.nextRun(from: page, pageCountMax: limit)
    guard let ofMain, let ofOwn else { return ofMain ?? ofOwn }
    let first = min(ofMain.first, ofOwn.first)
    var last = ofMain.first <= ofOwn.first ? ofMain.last : ofOwn.last
    while last &- first &+ 1 < limit {
      let next = last &+ 1
      let left = limit &- (next &- first)
      if main.contains(next) {
        last = main.nextRun(from: next, pageCountMax: left)?.last ?? last
      } else if own.bits.contains(next) {
        last = own.bits.nextRun(from: next, pageCountMax: left)?.last ?? last
      } else {
        break
      }
    }
    return PageRun(first: first, last: last)
  }

  /// Takes pages out for one consumer; the others keep them.
  /// - Returns: where to go on; nil when nothing is left from `page` on.
  mutating func takeRuns(
    for share: ConsumerShare, from page: UInt64, pageCountMax: UInt64, into runs: inout [PageRun],
    runCountMax: Int
  ) -> UInt64? {
    guard let own = share.own else {
      return main.takeRuns(
        from: page, pageCountMax: pageCountMax, into: &runs, runCountMax: runCountMax)
    }
    var next = page
    var left = pageCountMax
    var room = runCountMax
    while let run = nextRun(of: share, from: next, limit: max(left, 1)) {
      guard left > 0, room > 0 else { return run.first }
      leaveToOthers(run, than: share)
      main.remove(first: run.first, last: run.last)
      own.bits.remove(first: run.first, last: run.last)
      runs.append(run)
      left &-= run.pageCount
      room -= 1
      next = run.last &+ 1
    }
    return nil
  }

  private func leaveToOthers(_ run: PageRun, than share: ConsumerShare) {
    var page = run.first
    while page <= run.last,
      let part = main.nextRun(from: page, pageCountMax: run.last &- page &+ 1),
      part.first <= run.last
    {
      let last = min(part.last, run.last)
      for other in shares where other !== share {
        _ = other.own?.bits.insert(first: part.first, last: last)
      }
      page = last &+ 1
    }
  }
}
