/// Whole bitmaps as sets, led by the summaries: the cost is that of the dirty lines, not of the
/// size.
///
/// A **block** is one word of the line summary: 64 lines, 32768 pages. What may take long is
/// offered block by block, for a caller that must not hold a lock meanwhile.
extension PageBitmap {
  package static let pagesPerBlock: UInt64 = 32768
  package var blockCount: Int { storage.lineWordCount }

  /// Marks what `other` marks.
  /// - Returns: how many were clean.
  /// - Precondition: both have the same page count.
  public mutating func formUnion(_ other: borrowing PageBitmap) -> UInt64 {
    formUnion(other, blocks: 0..<blockCount)
  }

  package mutating func formUnion(_ other: borrowing PageBitmap, blocks: Range<Int>) -> UInt64 {
    precondition(pageCount == other.pageCount, "the bitmaps are of different sizes")
    guard !other.isEmpty else { return 0 }
    let newly = storage.formUnion(other.storage, blocks: blocks).newlyDirtyPages
    dirtyCount &+= newly
    return newly
  }

  /// Moves all dirty pages from this bitmap into `other`: fetch and clear. Clean lines are passed
  /// over and are not written.
  /// - Returns: how many pages were clean in `other`.
  /// - Precondition: both have the same page count.
  public mutating func move(into other: inout PageBitmap) -> UInt64 {
    move(into: &other, blocks: 0..<blockCount)
  }

  package mutating func move(into other: inout PageBitmap, blocks: Range<Int>) -> UInt64 {
    precondition(pageCount == other.pageCount, "the bitmaps are of different sizes")
    guard !isEmpty else { return 0 }
    let count = storage.move(into: &other.storage, blocks: blocks)
    dirtyCount &-= count.dirtyPages
    other.dirtyCount &+= count.newlyDirtyPages
    return count.newlyDirtyPages
  }

  package func word(_ index: Int) -> UInt64 {
    precondition(index >= 0 && index < storage.wordCount, "the word lies outside the bitmap")
    return storage.word(index)
  }

  /// ORs one word in.
  /// - Returns: how many of its pages were clean.
  /// - Precondition: `bits` has no page at or past `pageCount`.
  package mutating func formUnion(word index: Int, _ bits: UInt64) -> UInt64 {
    let old = word(index)
    precondition(
      bits == 0 || UInt64(index) &* 64 &+ UInt64(63 &- bits.leadingZeroBitCount) < pageCount,
      "the pages lie outside the bitmap")
    let newly = UInt64((bits & ~old).nonzeroBitCount)
    guard newly != 0 else { return 0 }
    storage.setWord(index, old | bits)
    storage.markLine(ofWord: index)
    dirtyCount &+= newly
    return newly
  }

  /// Calls `body` with the index and bits of every word of the blocks that is not zero.
  package func forEachDirtyWord(blocks: Range<Int>, _ body: (Int, UInt64) -> Void) {
    let end = min(UInt64(blocks.upperBound) &* Self.pagesPerBlock, pageCount)
    var page = UInt64(blocks.lowerBound) &* Self.pagesPerBlock
    while page < end, let dirty = nextDirty(from: page, before: end), dirty < end {
      let index = Int(dirty &>> 6)
      body(index, storage.word(index))
      page = (dirty | 63) &+ 1
    }
  }
}
