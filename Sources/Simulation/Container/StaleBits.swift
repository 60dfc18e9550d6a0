import PageBitmap

/// What the kernel's bitmap of one mapping of type1 holds past the mapping's last page.
///
/// The kernel shifts that bitmap in place to where the mapping lies in the caller's, ORs in what the
/// caller's word holds of the mapping before, and copies whole words out. It clears the mapping's
/// own bits afterwards, but not those shifted past them: a later read shifts them back into sight,
/// where the mapping that follows in the same word takes them for its own. Pages are reported that
/// nobody wrote; none that was written is left out.
struct StaleBits: Sendable {
  /// The last words of the bitmap, from that of the page after the last.
  private var tail: [UInt64] = []

  /// - Parameters:
  ///   - pages: of the mapping.
  ///   - dirty: of those.
  ///   - firstBit: of the mapping in `bitmap`.
  mutating func report(
    _ pages: ClosedRange<UInt64>, dirty: [ClosedRange<UInt64>], firstBit: UInt64,
    into bitmap: inout QueryBitmap
  ) {
    let count = Int(pages.upperBound - pages.lowerBound) + 1
    let tailFirst = count / 64
    // One word more than the pages need, for the shift.
    var words = [UInt64](repeating: 0, count: (count + 63) / 64 + 1)
    for (index, word) in tail.enumerated() { words[tailFirst + index] |= word }
    for run in dirty {
      for page in run {
        words[Int(page - pages.lowerBound) / 64] |= 1 << ((page - pages.lowerBound) & 63)
      }
    }
    let offset = Int(firstBit / 64)
    let shift = firstBit % 64
    let copied = (count + Int(shift) + 63) / 64
    if shift != 0 {
      for index in (1..<max(copied, 1)).reversed() {
        words[index] = words[index] << shift | words[index - 1] >> (64 - shift)
      }
      words[0] = words[0] << shift | bitmap.word(offset)
    }
    for index in 0..<copied where offset + index < bitmap.wordCount {
      bitmap.merge(word: offset + index, words[index])
    }
    tail = Array(words[tailFirst...])
    tail[0] &= UInt64.max << UInt64(count % 64)
  }
}

extension QueryBitmap {
  fileprivate func word(_ index: Int) -> UInt64 { withWords { $0[index] } }
}
