/// Runs of dirty pages, found by way of the summaries.
extension PageBitmap {
  /// The first run that ends at or after `page`, clipped to begin no earlier; nil when none does.
  public func nextRun(from page: UInt64) -> PageRun? {
    nextRun(from: page, pageCountMax: UInt64.max)
  }

  /// The same, cut after `pageCountMax` pages, at least one: the end of a long run is not looked
  /// for in vain.
  /// - Parameter end: lines that begin there or later are not looked at; a run that begins before
  ///   it may go on past it.
  package func nextRun(
    from page: UInt64, before end: UInt64 = .max, pageCountMax: UInt64
  ) -> PageRun? {
    guard let first = nextDirty(from: page, before: end) else { return nil }
    return PageRun(first: first, last: lastOfRun(first, pageCountMax: pageCountMax))
  }

  /// The same, and clears the summary of lines it finds to be zero, so that the next search is
  /// spared the look.
  package mutating func nextRunCleaning(
    from page: UInt64, before end: UInt64, pageCountMax: UInt64
  ) -> PageRun? {
    guard let first = nextDirtyCleaning(from: page, before: end) else { return nil }
    return PageRun(first: first, last: lastOfRun(first, pageCountMax: pageCountMax))
  }

  /// The first page from `page` on whose line may hold a dirty one, by the summaries alone: where
  /// a search in pieces begins its next piece.
  package func nextMarked(from page: UInt64) -> UInt64? {
    guard page < pageCount, !isEmpty, let line = nextMarkedLine(from: Int(page &>> 9)) else {
      return nil
    }
    return max(page, UInt64(line) &<< 9)
  }

  public func forEachRun(_ body: (PageRun) -> Void) {
    var page: UInt64 = 0
    while let run = nextRun(from: page) {
      body(run)
      page = run.last &+ 1
    }
  }

  /// Takes up to `pageCountMax` dirty pages from `page` on out of the bitmap: they are clean after.
  ///
  /// - Parameter runs: gets at most `runCountMax` more runs, in order.
  /// - Returns: where to go on; nil when no dirty page is left from `page` on.
  public mutating func takeRuns(
    from page: UInt64, pageCountMax: UInt64, into runs: inout [PageRun], runCountMax: Int
  ) -> UInt64? {
    takeRuns(
      from: page, pageCountMax: pageCountMax, into: &runs, runCountMax: runCountMax,
      lineCountMax: .max)
  }

  /// The same, and looks at no more than `lineCountMax` lines, of which any number may be clean
  /// without the summaries saying so.
  package mutating func takeRuns(
    from page: UInt64, pageCountMax: UInt64, into runs: inout [PageRun], runCountMax: Int,
    lineCountMax: UInt64
  ) -> UInt64? {
    guard let start = nextMarked(from: page) else { return nil }
    let end = Self.end(ofLines: lineCountMax, from: start)
    var next = start
    var left = pageCountMax
    var room = runCountMax
    while next < end, let first = nextDirtyCleaning(from: next, before: end) {
      guard left > 0, room > 0 else { return first }
      let last = lastOfRun(first, pageCountMax: left)
      remove(first: first, last: last)
      runs.append(PageRun(first: first, last: last))
      left &-= last &- first &+ 1
      room -= 1
      next = last &+ 1
    }
    return nextMarked(from: max(next, end))
  }

  /// The first page past `lineCountMax` lines, that of `page` the first of them.
  package static func end(ofLines lineCountMax: UInt64, from page: UInt64) -> UInt64 {
    let (line, isOver) = (page &>> 9).addingReportingOverflow(lineCountMax)
    return isOver || line > UInt64.max &>> 9 ? .max : line &<< 9
  }

  /// The first dirty page from `page` on.
  /// - Parameter end: lines that begin there or later are not looked at.
  package func nextDirty(from page: UInt64, before end: UInt64 = .max) -> UInt64? {
    guard page < pageCount, !isEmpty else { return nil }
    var word = Int(page &>> 6)
    let bits = storage.word(word) & (UInt64.max &<< (page & 63))
    if bits != 0 { return UInt64(word) &* 64 &+ UInt64(bits.trailingZeroBitCount) }
    word &+= 1
    while word & 7 != 0 {
      if storage.word(word) != 0 { return dirtyPage(inWord: word) }
      word &+= 1
    }
    var line = word / 8
    while let marked = nextMarkedLine(from: line), UInt64(marked) &<< 9 < end {
      for word in (marked &* 8)..<(marked &* 8 &+ 8) where storage.word(word) != 0 {
        return dirtyPage(inWord: word)
      }
      line = marked &+ 1
    }
    return nil
  }

  /// The same, and clears the summary of lines it finds to be zero, so that the next sweep is
  /// spared the look.
  private mutating func nextDirtyCleaning(from page: UInt64, before end: UInt64) -> UInt64? {
    guard page < pageCount, !isEmpty else { return nil }
    var word = Int(page &>> 6)
    let bits = storage.word(word) & (UInt64.max &<< (page & 63))
    if bits != 0 { return UInt64(word) &* 64 &+ UInt64(bits.trailingZeroBitCount) }
    word &+= 1
    while word & 7 != 0 {
      if storage.word(word) != 0 { return dirtyPage(inWord: word) }
      word &+= 1
    }
    if storage.lineIsZero(word / 8 &- 1) { storage.clearLine(word / 8 &- 1) }
    var line = word / 8
    while let marked = nextMarkedLine(from: line), UInt64(marked) &<< 9 < end {
      for word in (marked &* 8)..<(marked &* 8 &+ 8) where storage.word(word) != 0 {
        return dirtyPage(inWord: word)
      }
      storage.clearLine(marked)
      line = marked &+ 1
    }
    return nil
  }

  @inline(__always) private func dirtyPage(inWord word: Int) -> UInt64 {
    UInt64(word) &* 64 &+ UInt64(storage.word(word).trailingZeroBitCount)
  }

  private func nextMarkedLine(from line: Int) -> Int? {
    var summary = line &>> 6
    guard summary < storage.lineWordCount else { return nil }
    let bits = storage.lineWord(summary) & (UInt64.max &<< UInt64(line & 63))
    if bits != 0 { return summary &* 64 &+ bits.trailingZeroBitCount }
    summary &+= 1
    var block = summary &>> 6
    guard block < storage.blockWordCount else { return nil }
    var blockBits = storage.blockWord(block) & (UInt64.max &<< UInt64(summary & 63))
    while true {
      while blockBits != 0 {
        let found = block &* 64 &+ blockBits.trailingZeroBitCount
        blockBits &= blockBits &- 1
        let lines = storage.lineWord(found)
        if lines != 0 { return found &* 64 &+ lines.trailingZeroBitCount }
      }
      block &+= 1
      guard block < storage.blockWordCount else { return nil }
      blockBits = storage.blockWord(block)
    }
  }

  /// The last page of the run that holds `first`, a dirty page; the last of `pageCountMax` pages
  /// when the run is longer.
  private func lastOfRun(_ first: UInt64, pageCountMax: UInt64) -> UInt64 {
    let left = pageCount &- first
    let end = first &+ (min(left, pageCountMax) &- 1)
    var word = Int(first &>> 6)
    let endWord = Int(end &>> 6)
    var clear = ~storage.word(word) & (UInt64.max &<< (first & 63))
    while clear == 0 {
      word &+= 1
      guard word <= endWord else { return end }
      clear = ~storage.word(word)
    }
    return min(end, UInt64(word) &* 64 &+ UInt64(clear.trailingZeroBitCount) &- 1)
  }
}
