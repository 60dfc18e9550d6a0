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
  /// The last entry of the journal that no mark here may change places with.
  var lastOrdered = JournalPlace(0)
  /// In a replay from a copy: by block of bits, from which entry on the copy knows nothing.
  var copied: [JournalPlace] = []
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

  /// The pages of some blocks of bits; none past the region's end.
  func pages(in blocks: Range<Int>) -> Range<UInt64> {
    let end = min(UInt64(blocks.upperBound) &* PageBitmap.pagesPerBlock, main.pageCount)
    return min(UInt64(blocks.lowerBound) &* PageBitmap.pagesPerBlock, end)..<end
  }

  func isClean(for consumer: ConsumerID) -> Bool {
    guard let share = share(of: consumer) else { return true }
    return main.isEmpty && share.own?.bits.isEmpty ?? true
  }

  /// Pages of the blocks that are dirty for the consumer.
  func dirtyCount(for consumer: ConsumerID, blocks: Range<Int>) -> UInt64 {
    guard !isGone, let share = share(of: consumer) else { return 0 }
    var count: UInt64 = 0
    main.forEachDirtyWord(blocks: blocks) { count &+= UInt64($1.nonzeroBitCount) }
    share.own?.bits.forEachDirtyWord(blocks: blocks) { index, bits in
      count &+= UInt64((bits & ~main.word(index)).nonzeroBitCount)
    }
    return count
  }

  func isDirty(_ page: UInt64, for share: ConsumerShare) -> Bool {
    main.contains(page) || share.own?.bits.contains(page) ?? false
  }

  /// The first page from `page` on whose line may hold one that is dirty for the consumer.
  private func nextMarked(of share: ConsumerShare, from page: UInt64) -> UInt64? {
    let ofMain = main.nextMarked(from: page)
    guard let ofOwn = share.own?.bits.nextMarked(from: page) else { return ofMain }
    return ofMain.map { min($0, ofOwn) } ?? ofOwn
  }

  /// The first run dirty for the consumer among the lines of one hold, cut after the pages of one;
  /// and where to go on when there is none.
  func nextRun(
    for consumer: ConsumerID, from page: UInt64, _ limits: HoldLimits
  ) -> (run: PageRun?, after: UInt64?) {
    guard !isGone, let share = share(of: consumer),
      let start = nextMarked(of: share, from: page)
    else { return (nil, nil) }
    let end = PageBitmap.end(ofLines: limits.lineCount, from: start)
    let limit = limits.pageCount
    let ofMain = main.nextRun(from: start, before: end, pageCountMax: limit)
    let ofOwn = share.own?.bits.nextRun(from: start, before: end, pageCountMax: limit)
    let run = joined(ofMain, ofOwn, share, limit: limit)
    return (run, run == nil && end < main.pageCount ? end : nil)
  }

  /// The run that begins first, as far as main and own together make it go on.
  private func joined(
    _ ofMain: PageRun?, _ ofOwn: PageRun?, _ share: ConsumerShare, limit: UInt64
  ) -> PageRun? {
    guard let own = share.own, let one = ofMain ?? ofOwn else { return ofMain }
    let other = ofMain == nil ? one : ofOwn ?? one
    let first = min(one.first, other.first)
    var last = one.first <= other.first ? one.last : other.last
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

  /// Takes pages out for one consumer; the others keep them. Looks at no more than `lineCountMax`
  /// lines.
  /// - Returns: where to go on; nil when nothing is left from `page` on.
  mutating func takeRuns(
    for share: ConsumerShare, from page: UInt64, pageCountMax: UInt64, into runs: inout [PageRun],
    runCountMax: Int, lineCountMax: UInt64
  ) -> UInt64? {
    guard let own = share.own else {
      return main.takeRuns(
        from: page, pageCountMax: pageCountMax, into: &runs, runCountMax: runCountMax,
        lineCountMax: lineCountMax)
    }
    guard let start = nextMarked(of: share, from: page) else { return nil }
    let end = PageBitmap.end(ofLines: lineCountMax, from: start)
    var next = start
    var left = pageCountMax
    var room = runCountMax
    while next < end {
      let limit = max(left, 1)
      let ofMain = main.nextRunCleaning(from: next, before: end, pageCountMax: limit)
      let ofOwn = own.bits.nextRunCleaning(from: next, before: end, pageCountMax: limit)
      guard let run = joined(ofMain, ofOwn, share, limit: limit) else { break }
      guard left > 0, room > 0 else { return run.first }
      leaveToOthers(run, than: share)
      main.remove(first: run.first, last: run.last)
      own.bits.remove(first: run.first, last: run.last)
      runs.append(run)
      left &-= run.pageCount
      room -= 1
      next = run.last &+ 1
    }
    return nextMarked(of: share, from: max(next, end))
  }

  private func leaveToOthers(_ run: PageRun, than share: ConsumerShare) {
    var page = run.first
    while page <= run.last,
      let part = main.nextRun(
        from: page, before: run.last &+ 1, pageCountMax: run.last &- page &+ 1),
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
