public import Addressing

/// The answer to one dirty query: a window of IOVA, one bit a page.
///
/// Shape: bit 0 of word 0 is the page that holds `window.first`; words are 64-bit little-endian, as
/// `struct vfio_bitmap` and `IOMMU_HWPT_GET_DIRTY_BITMAP` lay them out. The memory is had once and
/// reused. A query only ever sets bits.
public struct QueryBitmap: ~Copyable, Sendable {
  /// Words that were just read and are in a cache of the CPU's own: 512 KiB.
  private static let cachedWordCount = 1 << 16

  public private(set) var window: IOVARange?
  public private(set) var pageSize = PageSize.fourKiB
  /// Words the window needs.
  public private(set) var wordCount = 0
  var storage: QueryStorage

  /// Room for windows of up to `byteCountMax` bytes of bits. The memory is touched when used.
  public init(
    byteCountMax: Int, allocator: any BitmapAllocator = HeapBitmapAllocator()
  ) throws(PageBitmapError) {
    self.storage = try QueryStorage(byteCount: byteCountMax, allocator: allocator)
  }

  /// Bytes of bits the window needs, a multiple of 8 as the kernel asks for.
  public var byteCount: Int { wordCount &* 8 }
  public var byteCountMax: Int { storage.wordCountMax &* 8 }

  /// Bytes of bits a window of `window` in pages of `pageSize` needs, nil past what a machine has.
  public static func byteCount(window: IOVARange, pageSize: PageSize) -> Int? {
    // Page counts of a window stay below 2^52 + 1.
    Int(exactly: (window.pageCount(pageSize) &+ 63) / 64 &* 8)
  }

  /// Clears everything and takes up a new window.
  /// - Precondition: the window consists of whole pages.
  public mutating func reset(window: IOVARange, pageSize: PageSize) throws(PageBitmapError) {
    precondition(window.isAligned(to: pageSize), "a query window consists of whole pages")
    guard let bytes = Self.byteCount(window: window, pageSize: pageSize), bytes <= byteCountMax
    else {
      throw .windowTooLarge(window, pageSize: pageSize, byteCountMax: byteCountMax)
    }
    storage.clear(wordCount: wordCount)
    self.window = window
    self.pageSize = pageSize
    self.wordCount = bytes / 8
  }

  /// The bits before `address` are not read again. Clears them while they are in the caches, so
  /// that the next reset need not; when they are too many for those, they are left to it.
  public mutating func forget(before address: IOVA) {
    guard let window, window.first < address else { return }
    let page = (address.rawValue &- window.first.rawValue) &>> pageSize.shift
    let end = min(Int(page &>> 6), wordCount)
    if end &- storage.clearWordCount <= Self.cachedWordCount { storage.clear(wordCount: end) }
  }

  /// Marks every page `range` touches; what lies outside the window is left out.
  public mutating func insert(_ range: IOVARange) {
    guard let window, let part = window.intersection(range) else { return }
    let first = (part.first.rawValue &- window.first.rawValue) &>> pageSize.shift
    let last = (part.last.rawValue &- window.first.rawValue) &>> pageSize.shift
    for index in Int(first &>> 6)...Int(last &>> 6) {
      storage[index] |= PageBitmap.mask(index, first, last)
    }
  }

  public mutating func markAll() {
    if let window { insert(window) }
  }

  /// ORs words of the same window in.
  public mutating func merge(word index: Int, _ bits: UInt64) {
    precondition(index < wordCount, "the word lies outside the window")
    storage[index] |= bits
  }

  public func contains(_ address: IOVA) -> Bool {
    guard let window, window.contains(address) else { return false }
    let page = (address.rawValue &- window.first.rawValue) &>> pageSize.shift
    return storage[Int(page &>> 6)] & (1 &<< (page & 63)) != 0
  }

  public var isClear: Bool { storage.firstNonzero(from: 0, wordCount) == wordCount }

  /// Set bits.
  public var dirtyCount: UInt64 { storage.population(wordCount) }

  /// Calls `body` with the index and value of every word that is not zero.
  public func forEachDirtyWord(_ body: (Int, UInt64) -> Void) {
    var index = storage.firstNonzero(from: 0, wordCount)
    while index < wordCount {
      body(index, storage[index])
      index = storage.firstNonzero(from: index &+ 1, wordCount)
    }
  }

  /// The first run of dirty pages that reaches into `from`...`last`, as IOVA, clipped to it.
  public func nextDirtyRun(from: IOVA, through last: IOVA) -> IOVARange? {
    guard let window, from <= last,
      let part = window.intersection(AddressRange(first: from, last: last))
    else { return nil }
    let firstPage = (part.first.rawValue &- window.first.rawValue) &>> pageSize.shift
    let lastPage = (part.last.rawValue &- window.first.rawValue) &>> pageSize.shift
    guard let dirty = nextPage(from: firstPage, through: lastPage, set: true) else { return nil }
    let end = nextPage(from: dirty, through: lastPage, set: false)
    let base = window.first.rawValue
    let runFirst = IOVA(base &+ (dirty &<< pageSize.shift))
    let runLast = end.map { IOVA(base &+ ($0 &<< pageSize.shift) &- 1) } ?? part.last
    return AddressRange(first: max(runFirst, part.first), last: min(runLast, part.last))
  }

  /// Dirty ranges in IOVA order.
  public func forEachDirtyRun(_ body: (IOVARange) -> Void) {
    guard let window else { return }
    var from = window.first
    while let run = nextDirtyRun(from: from, through: window.last) {
      body(run)
      guard run.last < window.last else { return }
      from = IOVA(run.last.rawValue &+ 1)
    }
  }

  private func nextPage(from page: UInt64, through last: UInt64, set: Bool) -> UInt64? {
    var index = Int(page &>> 6)
    let end = Int(last &>> 6)
    let flip: UInt64 = set ? 0 : UInt64.max
    var bits = (storage[index] ^ flip) & (UInt64.max &<< (page & 63))
    while bits == 0 {
      index &+= 1
      guard index <= end else { return nil }
      bits = storage[index] ^ flip
    }
    let found = UInt64(index) &* 64 &+ UInt64(bits.trailingZeroBitCount)
    return found <= last ? found : nil
  }

  /// The words of the window.
  public func withWords<R: ~Copyable, E: Error>(
    _ body: (Span<UInt64>) throws(E) -> R
  ) throws(E) -> R {
    try storage.withWords(wordCount, body)
  }
}
