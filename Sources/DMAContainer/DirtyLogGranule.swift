public import Addressing

/// How much of its ranges a device's log reads and clears together.
///
/// A driver may keep its bitmap in words (pds: 64 pages, counted from the first page of the logged
/// range) or in larger pages than it is asked in (mlx5 chooses at the start). A query that begins
/// or ends inside of such a piece gets bits of other pages, or takes bits away that it does not
/// report. So ranges and windows consist of whole pieces, and all of an answer is used.
///
/// Invariant: sizes are powers of two, so a range of whole pieces that begins at a multiple of one
/// has its pieces at multiples, whatever larger page the driver chose within the stated size.
public struct DirtyLogGranule: Hashable, Sendable {
  /// Pages that are read and cleared together.
  public let pageCount: UInt64
  /// The largest page the log may work in where it is started with smaller ones.
  public let pageSize: PageSize

  /// - Precondition: `pageCount` is a power of two of at most 2^20.
  public init(pageCount: UInt64, pageSize: PageSize) {
    precondition(
      pageCount.nonzeroBitCount == 1 && pageCount <= 1 << 20, "a granule is a power of two of pages"
    )
    self.pageCount = pageCount
    self.pageSize = pageSize
  }

  /// The log answers for each page by itself, in the page size it is asked in.
  public static let page = DirtyLogGranule(pageCount: 1, pageSize: .fourKiB)

  /// Words of 64 pages.
  public static func words(of pageSize: PageSize) -> DirtyLogGranule {
    DirtyLogGranule(pageCount: 64, pageSize: pageSize)
  }

  /// Of a log started with pages of that size.
  public func size(startedWith pageSize: PageSize) -> PageSize {
    let (bytes, isPast) = max(pageSize, self.pageSize).bytes.multipliedReportingOverflow(
      by: pageCount)
    let largest: UInt64 = 1 << 62
    return PageSize(bytes: isPast ? largest : min(bytes, largest)) ?? pageSize
  }
}
