public import Addressing
import PageBitmap
import Locking

extension GuestDirtyLog {
  /// Marks every page `range` touches.
  @discardableResult
  public func mark(_ range: GPARange, by source: DirtySource) -> MarkCount {
    mark(range, by: source, at: journaled(.marked(by: source, [range])))
  }

  /// For a mark that an operation makes which is written down at `place` itself.
  package func mark(
    _ range: GPARange, by source: DirtySource, at place: JournalPlace
  ) -> MarkCount {
    let first = range.first.rawValue &>> pageSize.shift
    let last = range.last.rawValue &>> pageSize.shift
    // One region is the rule, one page too.
    let region = directory.withLock { $0.regions.region(holding: first) }
    if let region, last <= region.lastPage {
      let base = region.firstPage
      return region.mark(first: first &- base, last: last &- base, by: source, at: place)
    }
    return markPieces(first: first, last: last) { region, first, last in
      region.mark(first: first, last: last, by: source, at: place)
    }
  }

  /// Cuts pages by region and calls `body` with indexes in it; counts what lies in none.
  func markPieces(
    first: UInt64, last: UInt64, _ body: (RegionLog, UInt64, UInt64) -> MarkCount
  ) -> MarkCount {
    let regions = directory.withLock { $0.regions }
    var count = MarkCount()
    var inside: UInt64 = 0
    var index = regions.index(endingFrom: first)
    while index < regions.count, regions[index].firstPage <= last {
      let region = regions[index]
      let from = max(first, region.firstPage)
      let to = min(last, region.lastPage)
      inside &+= to &- from &+ 1
      count += body(region, from &- region.firstPage, to &- region.firstPage)
      index &+= 1
    }
    count.outsidePages &+= last &- first &+ 1 &- inside
    return count
  }

  /// Marks the pages of `bitCount` bits of `words`, from `bitOffset` on, at `gpa` and after.
  ///
  /// Shape: one bit a page of `pageSize`, bit 0 of word 0 first, as KVM and vhost lay them out.
  /// - Precondition: the bits lie in `words`, and their pages below 2^64.
  @discardableResult
  public func merge(
    words: Span<UInt64>, bitOffset: UInt64 = 0, bitCount: UInt64, at gpa: GPA,
    by source: DirtySource
  ) -> MarkCount {
    let bits = UInt64(words.count) &* 64
    precondition(
      bitCount <= bits && bitOffset <= bits &- bitCount, "the bits lie outside the words")
    guard bitCount != 0 else { return MarkCount() }
    let first = gpa.rawValue &>> pageSize.shift
    let last = first &+ (bitCount &- 1)
    precondition(last <= UInt64.max &>> pageSize.shift, "the pages run past 2^64-1")
    let runs =
      journal == nil
      ? [] : words.runs(bitOffset: bitOffset, bitCount: bitCount, first, pageSize)
    let place = journaled(.marked(by: source, runs))
    let regions = directory.withLock { $0.regions.filter { $0.overlaps(first, last) } }
    var count = MarkCount()
    if topology.nodeCount > 1 && regions.count > 1 {
      count += SharedWords.lending(words) { words in
        onNodes(regions) { region in
          words.withSpan { region.mergePart($0, bitOffset, first, last, source, place) }
        }
      }
    } else {
      for region in regions {
        count += region.mergePart(words, bitOffset, first, last, source, place)
      }
    }
    var next = first
    for region in regions {
      if region.firstPage > next {
        count.outsidePages &+= words.population(
          bit: bitOffset &+ (next &- first), count: region.firstPage &- next)
      }
      next = region.lastPage &+ 1
    }
    if next <= last {
      count.outsidePages &+= words.population(
        bit: bitOffset &+ (next &- first), count: last &- next &+ 1)
    }
    return count
  }
}

extension RegionLog {
  fileprivate func overlaps(_ first: UInt64, _ last: UInt64) -> Bool {
    firstPage <= last && first <= lastPage
  }

  /// The bits of this region among those of the pages `first` to `last`.
  fileprivate func mergePart(
    _ words: Span<UInt64>, _ bitOffset: UInt64, _ first: UInt64, _ last: UInt64,
    _ source: DirtySource, _ place: JournalPlace
  ) -> MarkCount {
    let from = max(first, firstPage)
    let to = min(last, lastPage)
    return merge(
      words, bit: bitOffset &+ (from &- first), bitCount: to &- from &+ 1,
      at: from &- firstPage, by: source, place)
  }
}

extension Span<UInt64> {
  /// The runs of set bits, as pages from `page` on.
  fileprivate func runs(
    bitOffset: UInt64, bitCount: UInt64, _ page: UInt64, _ pageSize: PageSize
  ) -> [GPARange] {
    var runs: [GPARange] = []
    for index in Int(bitOffset &>> 6)...Int((bitOffset &+ bitCount &- 1) &>> 6) {
      var bits = self[index]
      while bits != 0 {
        let bit = UInt64(index) &* 64 &+ UInt64(bits.trailingZeroBitCount)
        bits &= bits &- 1
        guard bit >= bitOffset, bit < bitOffset &+ bitCount else { continue }
        let first = GPA((page &+ (bit &- bitOffset)) &<< pageSize.shift)
        let found = AddressRange(first: first, last: first.lastOfPage(pageSize))
        if let last = runs.last, last.isFollowed(by: found) {
          runs[runs.count - 1] = AddressRange(first: last.first, last: found.last)
        } else {
          runs.append(found)
        }
      }
    }
    return runs
  }
}
