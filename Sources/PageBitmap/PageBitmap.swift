public import Addressing

/// Which pages of a stretch of memory are dirty.
///
/// Terms:
/// - **word**: 64 pages, bit 0 the first; little-endian as the kernel's dirty bitmaps are.
/// - **line**: 8 words. **summary**: one bit a line, and one bit for each word of those, so that a
///   clean TiB is passed over in microseconds.
/// - **run**: consecutive dirty pages, as long as they go.
///
/// Invariants:
/// 1. A clear summary bit says that everything under it is zero. A set one promises nothing.
/// 2. Bits at and past `pageCount` are zero.
/// 3. `dirtyCount` is the number of set bits.
///
/// Shapes: `pageCount` bits in whole lines, 1 bit of summary for 512 pages and 1 for 32768. Memory
/// that was never marked is never touched.
public struct PageBitmap: ~Copyable, Sendable {
  public let pageCount: UInt64
  public let pageSize: PageSize
  /// Set bits.
  public internal(set) var dirtyCount: UInt64 = 0
  var storage: BitmapStorage

  /// A clean bitmap.
  public init(
    pageCount: UInt64, pageSize: PageSize = .fourKiB,
    allocator: any BitmapAllocator = HeapBitmapAllocator()
  ) throws(PageBitmapError) {
    self.pageCount = pageCount
    self.pageSize = pageSize
    self.storage = try BitmapStorage(pageCount: pageCount, allocator: allocator)
  }

  /// Whether a scatter writes clean lines past the caches: so from a size on, and in tests.
  package var streams: Bool {
    get { storage.streams }
    set { storage.setStreams(newValue) }
  }

  public var isEmpty: Bool { dirtyCount == 0 }
  public var allocatedByteCount: Int { storage.allocatedByteCount }

  public func contains(_ page: UInt64) -> Bool {
    page < pageCount && storage.word(Int(page &>> 6)) & (1 &<< (page & 63)) != 0
  }

  /// Marks one page.
  /// - Returns: whether it was clean.
  /// - Precondition: `page < pageCount`.
  @discardableResult
  public mutating func insert(_ page: UInt64) -> Bool {
    insert(first: page, last: page) != 0
  }

  /// Marks pages.
  /// - Returns: how many were clean.
  /// - Precondition: `first <= last < pageCount`.
  public mutating func insert(first: UInt64, last: UInt64) -> UInt64 {
    precondition(first <= last && last < pageCount, "the pages lie outside the bitmap")
    var newly: UInt64 = 0
    for index in Int(first &>> 6)...Int(last &>> 6) {
      let mask = Self.mask(index, first, last)
      let old = storage.word(index)
      newly &+= UInt64((mask & ~old).nonzeroBitCount)
      storage.setWord(index, old | mask)
      storage.markLine(ofWord: index)
    }
    dirtyCount &+= newly
    return newly
  }

  /// Cleans pages. Clean words are not written.
  /// - Returns: how many were dirty.
  /// - Precondition: `first <= last < pageCount`.
  @discardableResult
  public mutating func remove(first: UInt64, last: UInt64) -> UInt64 {
    precondition(first <= last && last < pageCount, "the pages lie outside the bitmap")
    var removed: UInt64 = 0
    for index in Int(first &>> 6)...Int(last &>> 6) {
      let mask = Self.mask(index, first, last)
      let old = storage.word(index)
      guard old & mask != 0 else { continue }
      removed &+= UInt64((old & mask).nonzeroBitCount)
      storage.setWord(index, old & ~mask)
    }
    dirtyCount &-= removed
    // Only lines that lie wholly inside are known to be zero without another look.
    let firstLine = (first &+ 511) &>> 9
    let endLine = (last &+ 1) &>> 9
    var line = firstLine
    while line < endLine {
      storage.clearLine(Int(line))
      line &+= 1
    }
    return removed
  }

  public mutating func removeAll() {
    storage.removeAll()
    dirtyCount = 0
  }

  /// Marks the pages of `bitCount` bits of `words`, from bit `bitOffset` on, at `page` and after.
  /// - Returns: how many were clean.
  /// - Precondition: the bits lie in `words` and the pages in the bitmap.
  public mutating func merge(
    words: Span<UInt64>, bitOffset: UInt64 = 0, bitCount: UInt64, at page: UInt64
  ) -> UInt64 {
    mergeCounting(words: words, bitOffset: bitOffset, bitCount: bitCount, at: page).newlyDirtyPages
  }

  /// The same, and counts the set bits too.
  public mutating func mergeCounting(
    words: Span<UInt64>, bitOffset: UInt64 = 0, bitCount: UInt64, at page: UInt64
  ) -> ScatterCount {
    precondition(
      bitCount <= pageCount && page <= pageCount &- bitCount, "the pages lie outside the bitmap")
    let bits = UInt64(words.count) &* 64
    precondition(
      bitCount <= bits && bitOffset <= bits &- bitCount, "the bits lie outside the words")
    let count = storage.merge(words, sourceBit: bitOffset, bitCount: bitCount, at: page)
    dirtyCount &+= count.newlyDirtyPages
    return count
  }

  /// The words: bit 0 of word 0 is page 0, whole lines of 8 words, zero past the last page.
  public func withWords<R: ~Copyable, E: Error>(
    _ body: (Span<UInt64>) throws(E) -> R
  ) throws(E) -> R {
    try storage.withWords(body)
  }

  /// The bits of `first` to `last` inside word `index`, which they overlap.
  @inline(__always) static func mask(_ index: Int, _ first: UInt64, _ last: UInt64) -> UInt64 {
    let base = UInt64(index) &* 64
    var mask = UInt64.max
    if first > base { mask &= UInt64.max &<< (first &- base) }
    if last < base &+ 63 { mask &= UInt64.max &>> (base &+ 63 &- last) }
    return mask
  }
}
