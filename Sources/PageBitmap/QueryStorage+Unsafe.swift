import CBitmapKernels

/// The words of a query.
///
/// Unsafe because a backend writes them by address (an ioctl, a message). Sound because the memory
/// is owned by this value alone and every access is bounded by the count it was made for.
@safe struct QueryStorage: ~Copyable, @unchecked Sendable {
  let wordCountMax: Int
  /// Words below this one are zero.
  private(set) var clearWordCount: Int
  private let base: UnsafeMutablePointer<UInt64>
  private let allocator: any BitmapAllocator

  init(byteCount: Int, allocator: any BitmapAllocator) throws(PageBitmapError) {
    precondition(byteCount >= 8, "a query holds at least one word")
    let words = byteCount / 8
    guard let memory = unsafe allocator.allocate(byteCount: words * 8) else {
      throw .outOfMemory(byteCount: byteCount)
    }
    wordCountMax = words
    clearWordCount = words
    unsafe base = memory.bindMemory(to: UInt64.self, capacity: wordCountMax)
    self.allocator = allocator
  }

  deinit { unsafe allocator.deallocate(UnsafeMutableRawPointer(base), byteCount: wordCountMax * 8) }

  subscript(index: Int) -> UInt64 {
    get {
      precondition(index >= 0 && index < wordCountMax, "the word lies outside the query")
      return unsafe base[index]
    }
    set {
      precondition(index >= 0 && index < wordCountMax, "the word lies outside the query")
      clearWordCount = min(clearWordCount, index)
      unsafe base[index] = newValue
    }
  }

  /// Clears words from the first one on, those that are not known to be zero.
  mutating func clear(wordCount: Int) {
    precondition(wordCount <= wordCountMax, "the words lie outside the query")
    guard clearWordCount < wordCount else { return }
    unsafe (base + clearWordCount).update(repeating: 0, count: wordCount &- clearWordCount)
    clearWordCount = wordCount
  }

  /// For a kernel that takes bits out: it gets the number of words at the front that are zero, and
  /// returns how many are afterwards.
  mutating func takeBits(_ body: (UnsafeMutablePointer<UInt64>, UInt64) -> UInt64) {
    let clear = unsafe body(base, UInt64(clearWordCount))
    clearWordCount = Int(clamping: clear)
  }

  func firstNonzero(from index: Int, _ wordCount: Int) -> Int {
    precondition(wordCount <= wordCountMax, "the words lie outside the query")
    return unsafe smudge_bitmap_first_nonzero(base, index, wordCount)
  }

  func population(_ wordCount: Int) -> UInt64 {
    precondition(wordCount <= wordCountMax, "the words lie outside the query")
    return unsafe smudge_bitmap_population(base, wordCount)
  }

  func withWords<R: ~Copyable, E: Error>(
    _ wordCount: Int, _ body: (Span<UInt64>) throws(E) -> R
  ) throws(E) -> R {
    precondition(wordCount <= wordCountMax, "the words lie outside the query")
    return try unsafe body(UnsafeBufferPointer(start: base, count: wordCount).span)
  }

  mutating func withMutableWords<R, E: Error>(
    _ body: (UnsafeMutablePointer<UInt64>) throws(E) -> R
  ) throws(E) -> R {
    clearWordCount = 0
    return try unsafe body(base)
  }
}

extension QueryBitmap {
  /// The address of the words, for a backend that hands them to the kernel. It must write at most
  /// `byteCount` bytes, and only set bits.
  @unsafe public mutating func withUnsafeMutableWords<R, E: Error>(
    _ body: (UnsafeMutablePointer<UInt64>) throws(E) -> R
  ) throws(E) -> R {
    try unsafe storage.withMutableWords(body)
  }
}

/// The kernels in use, for reports and for tests that force each level.
public enum KernelLevel {
  /// `baseline`, `avx2` or `avx512`.
  public static var name: String {
    unsafe String(cString: smudge_kernels_level_name(smudge_kernels_level()))
  }
  public static var current: Int { Int(smudge_kernels_level()) }
  public static var best: Int { Int(smudge_kernels_best_level()) }

  /// For tests: every bitmap of the process uses this level from now on.
  /// - Returns: false when the CPU does not have it.
  public static func force(_ level: Int) -> Bool {
    smudge_kernels_force_level(Int32(clamping: level)) == 0
  }
}
