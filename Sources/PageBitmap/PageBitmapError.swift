public import Addressing

/// Why a bitmap could not be had. Nothing has changed when one is thrown.
public enum PageBitmapError: Error, Hashable, Sendable, CustomStringConvertible {
  case outOfMemory(byteCount: Int)
  case tooManyPages(UInt64, limit: UInt64)
  /// A query's window needs more bitmap than the query was made for.
  case windowTooLarge(IOVARange, pageSize: PageSize, byteCountMax: Int)

  public var description: String {
    switch self {
    case .outOfMemory(let count): "no memory for a bitmap of \(count) bytes"
    case .tooManyPages(let pages, let limit):
      "a bitmap of \(pages) pages was asked for; the limit is \(limit)"
    case .windowTooLarge(let window, let pageSize, let max):
      "IOVA \(window) in pages of \(pageSize) needs more than \(max) bytes of bitmap"
    }
  }
}
