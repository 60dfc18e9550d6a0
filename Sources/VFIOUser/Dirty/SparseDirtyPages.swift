import Addressing
import PageBitmap

/// Dirty pages of 4 KiB by IOVA, as words of 64 pages where one of them is dirty.
///
/// Invariant: past its limit everything is dirty, until it is emptied.
struct SparseDirtyPages: Sendable {
  private var words: [UInt64: UInt64] = [:]
  private(set) var isOverflowed = false
  let wordCountMax: Int

  /// 1 Mi words: 256 GiB if they are full, some 32 MiB of memory.
  static let wordCountMaxDefault = 1 << 20

  init(wordCountMax: Int = wordCountMaxDefault) { self.wordCountMax = wordCountMax }

  var isEmpty: Bool { words.isEmpty && !isOverflowed }

  private static let pageShift: UInt64 = 12

  /// The bits of word `index` that lie in `range`.
  private static func mask(_ index: UInt64, _ range: IOVARange) -> UInt64 {
    let first = range.first.rawValue >> pageShift
    let last = range.last.rawValue >> pageShift
    let low = index == first >> 6 ? UInt64.max << (first & 63) : UInt64.max
    let high = index == last >> 6 ? UInt64.max >> (63 - (last & 63)) : UInt64.max
    return low & high
  }

  private static func indexes(_ range: IOVARange) -> ClosedRange<UInt64> {
    (range.first.rawValue >> (pageShift + 6))...(range.last.rawValue >> (pageShift + 6))
  }

  /// Every page `range` touches.
  mutating func insert(_ range: IOVARange) {
    guard !isOverflowed else { return }
    let indexes = Self.indexes(range)
    guard indexes.upperBound - indexes.lowerBound <= UInt64(wordCountMax) else {
      return overflow()
    }
    for index in indexes {
      words[index, default: 0] |= Self.mask(index, range)
      if words.count > wordCountMax { return overflow() }
    }
  }

  private mutating func overflow() {
    words = [:]
    isOverflowed = true
  }

  mutating func removeAll() {
    words = [:]
    isOverflowed = false
  }

  /// Moves what lies in `range` into the bitmap, whose window holds the range.
  mutating func take(_ range: IOVARange, into bitmap: inout QueryBitmap) {
    if isOverflowed { return bitmap.insert(range) }
    let indexes = Self.indexes(range)
    let isNarrow = indexes.upperBound - indexes.lowerBound < UInt64(words.count)
    for index in isNarrow ? Array(indexes) : words.keys.filter({ indexes.contains($0) }) {
      guard let word = words[index] else { continue }
      let taken = word & Self.mask(index, range)
      if taken == 0 { continue }
      words[index] = word == taken ? nil : word & ~taken
      WireBitmap.forEachRun(of: taken) { bits in
        let first = index << 6 + UInt64(bits.lowerBound)
        let last = index << 6 + UInt64(bits.upperBound)
        bitmap.insert(
          AddressRange(
            first: IOVA(first << Self.pageShift),
            last: IOVA(last << Self.pageShift | (1 << Self.pageShift - 1))))
      }
    }
  }

  mutating func remove(_ range: IOVARange) {
    let indexes = Self.indexes(range)
    let isNarrow = indexes.upperBound - indexes.lowerBound < UInt64(words.count)
    for index in isNarrow ? Array(indexes) : words.keys.filter({ indexes.contains($0) }) {
      guard let word = words[index] else { continue }
      let left = word & ~Self.mask(index, range)
      words[index] = left == 0 ? nil : left
    }
  }
}
