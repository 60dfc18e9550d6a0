import Addressing
import PageBitmap

/// Joins ranges that rise into windows with bitmaps of bounded size.
struct WindowBuilder {
  let pageSize: PageSize
  let byteCountMax: UInt64
  /// Bytes of bitmap a gap may cost before the window ends.
  let gapByteCountMax: UInt64
  /// A range may be divided among windows.
  let mayCut: Bool
  private var open: IOVARange?

  init(pageSize: PageSize, byteCountMax: UInt64, gapByteCountMax: UInt64, mayCut: Bool) {
    self.pageSize = pageSize
    self.byteCountMax = byteCountMax
    self.gapByteCountMax = gapByteCountMax
    self.mayCut = mayCut
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

  private mutating func addAligned(_ range: IOVARange, _ body: (QueryPlan.Step) -> Void) {
    if let window = open {
      if range.last <= window.last { return }  // one page of the query holds both
      let joined = AddressRange(first: window.first, last: range.last)
      if gapByteCount(window, range) <= gapByteCountMax, fits(joined) {
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
    let words = byteCountMax / 8
    let (bytes, overflow) = (words &* 64).multipliedReportingOverflow(by: pageSize.bytes)
    precondition(!overflow, "what does not fit is longer than what fits")
    var rest = range
    while !fits(rest) {
      let piece = AddressRange(
        first: rest.first, last: IOVA(rest.first.rawValue &+ (bytes &- 1)))
      body(.window(piece))
      rest = AddressRange(first: IOVA(piece.last.rawValue &+ 1), last: rest.last)
    }
    open = rest
  }

  private func fits(_ range: IOVARange) -> Bool {
    guard let bytes = QueryBitmap.byteCount(window: range, pageSize: pageSize) else { return false }
    return UInt64(bytes) <= byteCountMax
  }

  private func gapByteCount(_ window: IOVARange, _ range: IOVARange) -> UInt64 {
    guard let distance = range.first.offset(from: window.last), distance > 1 else { return 0 }
    return ((distance &- 1) &>> pageSize.shift) / 8
  }
}
