/// Which pages a vCPU writes: some again and again, the others one after another.
public struct WritePattern: Hashable, Sendable {
  /// Page numbers of the guest's layout it writes to; never empty.
  public let pages: Range<UInt64>
  /// Pages written again and again: the first of `pages`. 0: none.
  public let hotPageCount: UInt64
  /// Writes to hot pages, of each 256.
  public let hotShare: UInt64
  /// Bytes after the header that a write fills: this many words of 8 bytes, at most 508.
  public let bodyWordCount: Int

  /// - Precondition: `pages` is not empty and holds the hot ones; `bodyWordCount` is 0 to 508.
  public init(
    pages: Range<UInt64>, hotPageCount: UInt64 = 0, hotShare: UInt64 = 192, bodyWordCount: Int = 28
  ) {
    precondition(!pages.isEmpty, "a vCPU writes to one page at least")
    precondition(hotPageCount <= UInt64(pages.count), "more hot pages than pages")
    precondition(hotShare <= 256, "the share is of 256")
    precondition((0...508).contains(bodyWordCount), "a page has 508 words after the header")
    self.pages = pages
    self.hotPageCount = hotPageCount
    self.hotShare = hotShare
    self.bodyWordCount = bodyWordCount
  }
}
