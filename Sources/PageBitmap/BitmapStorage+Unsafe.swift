import Addressing
import CBitmapKernels

/// The words of one bitmap with their summaries, in memory of an allocator.
///
/// Unsafe because kernels in C read and write the words by address. Sound because the pointers come
/// from one allocation that this value alone owns, live as long as it, and every access below is
/// bounded by the counts the allocation was made for.
@safe struct BitmapStorage: ~Copyable {
  static let wordsPerLine = 8
  /// From this size on, 8 MiB of bits for 256 GiB of 4 KiB pages, a scatter writes lines that were
  /// clean past the caches: they would not stay there until they are harvested.
  static let streamedByteCountMin = 8 << 20

  let pageCount: UInt64
  /// Words of bits, whole lines.
  let wordCount: Int
  /// Words of the line summary: one bit a line of 8 words.
  let lineWordCount: Int
  /// Words of the block summary: one bit a word of the line summary.
  let blockWordCount: Int
  /// Whether a scatter writes past the caches: never when the words do not begin on a line.
  private(set) var streams: Bool
  private let base: UnsafeMutablePointer<UInt64>
  private let byteCount: Int
  private let allocator: any BitmapAllocator

  init(pageCount: UInt64, allocator: any BitmapAllocator) throws(PageBitmapError) {
    guard pageCount <= Limits.bitmapPageCountMax else {
      throw .tooManyPages(pageCount, limit: Limits.bitmapPageCountMax)
    }
    func up(_ count: Int, _ unit: Int) -> Int { (count + unit - 1) / unit }
    // Bounded by 2^40 pages, so none of this can overflow.
    let words = max(up(Int(pageCount), 512), 1) * Self.wordsPerLine
    let lineWords = up(up(words, 8), 64)
    let blockWords = up(lineWords, 64)
    let bytes = (words + up(lineWords, 8) * 8 + up(blockWords, 8) * 8) * 8
    guard let memory = unsafe allocator.allocate(byteCount: bytes) else {
      throw .outOfMemory(byteCount: bytes)
    }
    self.pageCount = pageCount
    self.wordCount = words
    self.lineWordCount = lineWords
    self.blockWordCount = blockWords
    self.byteCount = bytes
    unsafe self.base = memory.bindMemory(to: UInt64.self, capacity: bytes / 8)
    self.allocator = allocator
    self.streams = false
    setStreams(words * 8 >= Self.streamedByteCountMin)
  }

  mutating func setStreams(_ wanted: Bool) {
    unsafe streams = wanted && UInt(bitPattern: base) % UInt(Self.wordsPerLine * 8) == 0
  }

  deinit { unsafe allocator.deallocate(UnsafeMutableRawPointer(base), byteCount: byteCount) }

  var allocatedByteCount: Int { byteCount }

  private var lines: UnsafeMutablePointer<UInt64> { unsafe base + wordCount }
  private var blocks: UnsafeMutablePointer<UInt64> {
    unsafe base + wordCount + (lineWordCount + 7) / 8 * 8
  }

  var kernelView: smudge_bitmap {
    unsafe smudge_bitmap(words: base, lines: lines, blocks: blocks, page_count: pageCount)
  }

  // MARK: words and summaries

  /// - Precondition: `index < wordCount`, by the caller's loop; checked in debug builds.
  @inline(__always) func word(_ index: Int) -> UInt64 {
    assert(index >= 0 && index < wordCount)
    return unsafe base[index]
  }

  @inline(__always) mutating func setWord(_ index: Int, _ value: UInt64) {
    assert(index >= 0 && index < wordCount)
    unsafe base[index] = value
  }

  @inline(__always) func lineWord(_ index: Int) -> UInt64 {
    assert(index >= 0 && index < lineWordCount)
    return unsafe lines[index]
  }

  @inline(__always) func blockWord(_ index: Int) -> UInt64 {
    assert(index >= 0 && index < blockWordCount)
    return unsafe blocks[index]
  }

  @inline(__always) mutating func markLine(ofWord word: Int) {
    assert(word >= 0 && word < wordCount)
    let line = word &>> 3
    let block = line &>> 6
    unsafe lines[block] |= 1 &<< UInt64(line & 63)
    unsafe blocks[block &>> 6] |= 1 &<< UInt64(block & 63)
  }

  /// Says that a line is all zero.
  @inline(__always) mutating func clearLine(_ line: Int) {
    assert(line >= 0 && line < wordCount / 8)
    let block = line &>> 6
    unsafe lines[block] &= ~(1 &<< UInt64(line & 63))
    if unsafe lines[block] == 0 { unsafe blocks[block &>> 6] &= ~(1 &<< UInt64(block & 63)) }
  }

  @inline(__always) func lineIsZero(_ line: Int) -> Bool {
    let first = line &* 8
    assert(first >= 0 && first + 8 <= wordCount)
    var any: UInt64 = 0
    for index in first..<(first &+ 8) { unsafe any |= base[index] }
    return any == 0
  }

  /// Zeroes everything that may be set, led by the summaries.
  mutating func removeAll() {
    for block in 0..<blockWordCount where blockWord(block) != 0 {
      for summary in (block &* 64)..<min(block &* 64 &+ 64, lineWordCount) {
        var rest = lineWord(summary)
        while rest != 0 {
          let line = summary &* 64 &+ rest.trailingZeroBitCount
          rest &= rest &- 1
          unsafe (base + line &* 8).update(repeating: 0, count: 8)
        }
        unsafe lines[summary] = 0
      }
      unsafe blocks[block] = 0
    }
  }

  // MARK: kernels

  /// ORs bits in and counts them. The caller has checked both bounds.
  mutating func merge(_ source: Span<UInt64>, sourceBit: UInt64, bitCount: UInt64, at page: UInt64)
    -> ScatterCount
  {
    unsafe source.withUnsafeBufferPointer { words in
      guard let first = words.baseAddress else { return ScatterCount() }
      var view = unsafe kernelView
      return ScatterCount(unsafe smudge_bitmap_merge(&view, page, first, sourceBit, bitCount))
    }
  }

  /// ORs the blocks of `other`, a bitmap of the same size, in.
  mutating func formUnion(_ other: borrowing BitmapStorage, blocks: Range<Int>) -> ScatterCount {
    assert(blocks.lowerBound >= 0 && blocks.upperBound <= lineWordCount)
    var from = unsafe other.kernelView
    var into = unsafe kernelView
    return ScatterCount(
      unsafe smudge_bitmap_move(
        &from, &into, UInt64(blocks.lowerBound), UInt64(blocks.upperBound), 0))
  }

  /// ORs the blocks into `other`, a bitmap of the same size; they are zero here after.
  mutating func move(into other: inout BitmapStorage, blocks: Range<Int>) -> ScatterCount {
    assert(blocks.lowerBound >= 0 && blocks.upperBound <= lineWordCount)
    var from = unsafe kernelView
    var into = unsafe other.kernelView
    return ScatterCount(
      unsafe smudge_bitmap_move(
        &from, &into, UInt64(blocks.lowerBound), UInt64(blocks.upperBound), 1))
  }

  /// Scatters until the kernel is done or meets a mapping it leaves to the caller.
  mutating func scatter(
    _ source: Span<UInt64>, _ mappings: Span<Mapping>, _ cursor: inout ScatterCursor
  ) -> ScatterStop {
    unsafe source.withUnsafeBufferPointer { words in
      unsafe mappings.withUnsafeBytes { bytes in
        guard let words = words.baseAddress, let first = bytes.baseAddress else { return .done }
        // Sound: `Mapping` and `smudge_bitmap_mapping` have the same layout, which a test holds.
        let table = unsafe first.assumingMemoryBound(to: smudge_bitmap_mapping.self)
        var call = unsafe smudge_scatter(
          target: kernelView, target_gpa_first: cursor.gpaFirst.rawValue, source: words,
          window_first: cursor.window.first.rawValue,
          window_page_count: cursor.pageEnd,
          page_shift: cursor.pageSize.shift, mappings: table,
          mapping_count: UInt64(mappings.count), write_permission: Permissions.write.rawValue,
          streams: streams ? 1 : 0, mappings_lead: cursor.mappingsLead ? 1 : 0,
          mapping_next: UInt64(cursor.mappingNext), page_next: cursor.pageNext,
          hit_count: 0, newly_count: 0)
        let stop = unsafe smudge_bitmap_scatter(&call)
        cursor.mappingNext = unsafe Int(call.mapping_next)
        cursor.pageNext = unsafe call.page_next
        unsafe cursor.count.dirtyPages &+= call.hit_count
        unsafe cursor.count.newlyDirtyPages &+= call.newly_count
        switch Int(stop) {
        case SMUDGE_SCATTER_DONE: return .done
        case SMUDGE_SCATTER_OUTSIDE: return .outside
        default: return .unaligned
        }
      }
    }
  }

  /// The words, for reading.
  func withWords<R: ~Copyable, E: Error>(_ body: (Span<UInt64>) throws(E) -> R) throws(E) -> R {
    let words = unsafe UnsafeBufferPointer(start: base, count: wordCount)
    return try unsafe body(words.span)
  }
}

extension ScatterCount {
  init(_ counts: smudge_counts) {
    self.init()
    dirtyPages = counts.hit
    newlyDirtyPages = counts.newly
  }
}

// Sound: the value is the only owner of its memory.
extension BitmapStorage: @unchecked Sendable {}
