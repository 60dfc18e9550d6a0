import Addressing

/// Joins ranges that rise into windows with bitmaps of bounded size.
struct WindowBuilder {
  private let pageSize: PageSize
  /// A range may be divided among windows.
  private let mayCut: Bool
  /// The length less one of the longest window, in bytes.
  let windowOffsetMax: UInt64
  /// Bytes of IOVA a window may go on over without anything in it to ask for.
  let gapMax: UInt64
  private var open: IOVARange?

  /// - Parameters:
  ///   - byteCountMax: bytes of bitmap of a window; at least 8.
  ///   - gapByteCountMax: bytes of bitmap a gap may cost before the window ends.
  ///   - granule: what a window is a multiple of where it is cut; a window has at least one.
  init(
    pageSize: PageSize, byteCountMax: UInt64, gapByteCountMax: UInt64, mayCut: Bool,
    granule: PageSize? = nil
  ) {
    self.pageSize = pageSize
    self.mayCut = mayCut
    let (bits, isLong) = (byteCountMax / 8).multipliedReportingOverflow(by: 64)
    let (bytes, isLonger) = bits.multipliedReportingOverflow(by: pageSize.bytes)
    let granule = granule ?? pageSize
    self.windowOffsetMax =
      isLong || isLonger ? UInt64.max : max(granule.bytes, bytes & ~granule.offsetMask) &- 1
    let (gapBits, isWide) = gapByteCountMax.multipliedReportingOverflow(by: 8)
    let (gap, isWider) = gapBits.multipliedReportingOverflow(by: pageSize.bytes)
    self.gapMax = isWide || isWider ? UInt64.max : gap
  }

  mutating func close(_ body: (QueryPlan.Step) -> Void) {
    guard let window = open else { return }
    open = nil
    body(.window(window))
  }

  /// Takes up the next range, which lies after all before it.
  mutating func add(_ range: IOVARange, _ body: (QueryPlan.Step) -> Void) {
    guard range.isAligned(to: pageSize) else {
      guard mayCut else {
        close(body)
        return body(.unqueryable(range, .unaligned))
      }
      return addAligned(range.expanded(to: pageSize), body)
    }
    addAligned(range, body)
  }

  /// Takes up a range of many mappings if it goes into one window: as each of them would have.
  /// - Precondition: it consists of whole pages.
  mutating func addWhole(_ range: IOVARange, _ body: (QueryPlan.Step) -> Void) -> Bool {
    if let window = open, gap(window, range) <= gapMax {
      let joined = AddressRange(first: window.first, last: range.last)
      guard fits(joined) else { return false }
      open = joined
      return true
    }
    guard fits(range) else { return false }
    close(body)
    open = range
    return true
  }

  private mutating func addAligned(_ range: IOVARange, _ body: (QueryPlan.Step) -> Void) {
    if let window = open {
      if range.last <= window.last { return }  // one page of the query holds both
      let joined = AddressRange(first: window.first, last: range.last)
      if gap(window, range) <= gapMax, fits(joined) {
        open = joined
        return
      }
      // The last page of the window may hold the beginning of the range too.
      if range.first <= window.last {
        close(body)
        let rest = AddressRange(first: IOVA(window.last.rawValue &+ 1), last: range.last)
        return begin(rest, body)
      }
      close(body)
    }
    begin(range, body)
  }

  /// Opens a window; what does not fit is cut off in windows of its own, or refused.
  private mutating func begin(_ range: IOVARange, _ body: (QueryPlan.Step) -> Void) {
    if fits(range) {
      open = range
      return
    }
    guard mayCut else { return body(.unqueryable(range, .tooLarge)) }
    // A multiple of 64 pages, as many as the bitmap has bits.
    var rest = range
    while !fits(rest) {
      let piece = AddressRange(
        first: rest.first, last: IOVA(rest.first.rawValue &+ windowOffsetMax))
      body(.window(piece))
      rest = AddressRange(first: IOVA(piece.last.rawValue &+ 1), last: rest.last)
    }
    open = rest
  }

  /// Whether a window goes on over a gap of this size, and holds it.
  func isCheap(_ range: IOVARange) -> Bool { range.lastOffset < gapMax && fits(range) }

  private func fits(_ range: IOVARange) -> Bool { range.lastOffset <= windowOffsetMax }

  private func gap(_ window: IOVARange, _ range: IOVARange) -> UInt64 {
    guard range.first.rawValue > window.last.rawValue else { return 0 }
    return range.first.rawValue &- window.last.rawValue &- 1
  }
}
