import Addressing
import PageBitmap

/// The bitmap of an answer: bit n of byte n / 8 is the page at its IOVA + n pages.
enum WireBitmap {
  /// The runs of set bits, each as first and last.
  static func forEachRun(of word: UInt64, _ body: (ClosedRange<Int>) -> Void) {
    var left = word
    while left != 0 {
      let first = left.trailingZeroBitCount
      let length = (~(left >> UInt64(first))).trailingZeroBitCount
      body(first...(first + length - 1))
      if first + length >= 64 { return }
      left &= UInt64.max << UInt64(first + length)
    }
  }

  /// The runs of dirty addresses of an answer's bytes from `start` on, 8 bytes at a time. Runs do
  /// not
  /// reach over words. What would lie past 2^64-1 is left out.
  static func forEachRun(
    _ bytes: [UInt8], from start: Int, first: IOVA, pageSize: UInt64, _ body: (IOVARange) -> Void
  ) {
    for index in 0..<(bytes.count - start) / 8 {
      let word = WireBytes.load(UInt64.self, from: bytes, at: start + 8 * index)
      if word == 0 { continue }
      forEachRun(of: word) { bits in
        let page = UInt64(index) * 64 + UInt64(bits.lowerBound)
        let (offset, isPast) = page.multipliedReportingOverflow(by: pageSize)
        guard !isPast, let from = first.advanced(byBytes: offset) else { return }
        let byteCount = UInt64(bits.count).multipliedReportingOverflow(by: pageSize)
        let last =
          byteCount.overflow
          ? nil : from.advanced(byBytes: byteCount.partialValue &- 1)
        body(AddressRange(first: from, last: last ?? IOVA(UInt64.max)))
      }
    }
  }

  /// ORs every bit of an answer in. Bits outside of the window are given to `outside`.
  static func merge(
    _ bytes: [UInt8], from start: Int, first: IOVA, pageSize: PageSize,
    into bitmap: inout QueryBitmap, outside: (IOVARange) -> Void
  ) {
    guard let window = bitmap.window else { return }
    // Words that lie as the window's do are taken whole.
    if bitmap.pageSize == pageSize, first >= window.first,
      (first.rawValue - window.first.rawValue) % (pageSize.bytes &* 64) == 0,
      first.advanced(byBytes: UInt64(bytes.count - start) &* 8 &* pageSize.bytes &- 1)
        .map({ $0 <= window.last }) == true
    {
      let at = Int((first.rawValue - window.first.rawValue) / (pageSize.bytes &* 64))
      for index in 0..<(bytes.count - start) / 8 {
        let word = WireBytes.load(UInt64.self, from: bytes, at: start + 8 * index)
        if word != 0 { bitmap.merge(word: at + index, word) }
      }
      return
    }
    var runs: [IOVARange] = []
    forEachRun(bytes, from: start, first: first, pageSize: pageSize.bytes) { runs.append($0) }
    for run in runs {
      bitmap.insert(run)
      guard !window.contains(run) else { continue }
      if run.first < window.first {
        outside(
          AddressRange(
            first: run.first, last: min(run.last, IOVA(window.first.rawValue &- 1))))
      }
      if run.last > window.last {
        outside(
          AddressRange(first: max(run.first, IOVA(window.last.rawValue &+ 1)), last: run.last))
      }
    }
  }

  /// The bytes of an answer about `range` out of runs of dirty addresses: no bit past the range.
  static func bytes(of range: IOVARange, pageSize: UInt64, byteCount: Int) -> Builder {
    Builder(range: range, pageSize: pageSize, byteCount: byteCount)
  }

  struct Builder {
    let range: IOVARange
    let pageSize: UInt64
    private(set) var bytes: [UInt8]

    init(range: IOVARange, pageSize: UInt64, byteCount: Int) {
      self.range = range
      self.pageSize = pageSize
      bytes = [UInt8](repeating: 0, count: byteCount)
    }

    mutating func insert(_ dirty: IOVARange) {
      guard let part = dirty.intersection(range) else { return }
      let first = (part.first.rawValue - range.first.rawValue) / pageSize
      let last = (part.last.rawValue - range.first.rawValue) / pageSize
      var page = first
      while page <= last {
        // Whole bytes at once.
        if page & 7 == 0, last - page >= 7 {
          bytes[Int(page >> 3)] = 0xff
          page += 8
        } else {
          bytes[Int(page >> 3)] |= 1 << UInt8(page & 7)
          page += 1
        }
      }
    }
  }
}
