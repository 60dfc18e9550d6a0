/// Page numbers, in words of 64 where there are any: dirty bits anywhere in 2^64 bytes.
struct PageSet: Sendable {
  private var words: [UInt64: UInt64] = [:]

  func contains(_ page: UInt64) -> Bool {
    (words[page >> 6] ?? 0) & (1 << (page & 63)) != 0
  }

  mutating func insert(_ pages: ClosedRange<UInt64>) {
    for index in (pages.lowerBound >> 6)...(pages.upperBound >> 6) {
      words[index, default: 0] |= Self.mask(index, pages)
    }
  }

  mutating func remove(_ pages: ClosedRange<UInt64>) {
    for index in indices(in: pages) {
      let rest = (words[index] ?? 0) & ~Self.mask(index, pages)
      words[index] = rest == 0 ? nil : rest
    }
  }

  mutating func removeAll() { words.removeAll() }

  /// Calls `body` with every run of pages inside one word, in order.
  func forEachRun(in pages: ClosedRange<UInt64>, _ body: (ClosedRange<UInt64>) -> Void) {
    for index in indices(in: pages) {
      var bits = (words[index] ?? 0) & Self.mask(index, pages)
      while bits != 0 {
        let first = UInt64(bits.trailingZeroBitCount)
        let length = UInt64((~(bits >> first)).trailingZeroBitCount)
        body((index << 6) + first...(index << 6) + first + length - 1)
        bits &= first + length >= 64 ? 0 : UInt64.max << (first + length)
      }
    }
  }

  /// The words that hold pages of the range, found from the smaller side.
  private func indices(in pages: ClosedRange<UInt64>) -> [UInt64] {
    let range = (pages.lowerBound >> 6)...(pages.upperBound >> 6)
    if range.upperBound - range.lowerBound < UInt64(words.count) {
      return range.filter { words[$0] != nil }
    }
    return words.keys.filter { range.contains($0) }.sorted()
  }

  private static func mask(_ index: UInt64, _ pages: ClosedRange<UInt64>) -> UInt64 {
    var mask = UInt64.max
    if index == pages.lowerBound >> 6 { mask &= UInt64.max << (pages.lowerBound & 63) }
    if index == pages.upperBound >> 6 { mask &= UInt64.max >> (63 - (pages.upperBound & 63)) }
    return mask
  }
}
