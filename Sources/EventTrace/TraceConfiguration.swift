public import Addressing

/// How a tracker was made.
public struct TraceConfiguration: Hashable, Sendable {
  public var pageSize: PageSize
  /// Pinned pages are sent in every round rather than in stop-and-copy.
  public var sendsPinnedEveryRound: Bool
  /// Where asking for dirt and unmapping are two calls, what is written in between is left to the
  /// guest rather than all of the mapping marked.
  public var trustsGuest: Bool
  /// Writable pages mapped outside the ranges of a device log before it is started anew.
  public var rearmPageCount: UInt64
  /// The steps left out on purpose, a bit each, as the tracker numbers them.
  public var omissionMask: UInt8

  public init(
    pageSize: PageSize = .fourKiB, sendsPinnedEveryRound: Bool = false, trustsGuest: Bool = false,
    rearmPageCount: UInt64 = 1024, omissionMask: UInt8 = 0
  ) {
    self.pageSize = pageSize
    self.sendsPinnedEveryRound = sendsPinnedEveryRound
    self.trustsGuest = trustsGuest
    self.rearmPageCount = rearmPageCount
    self.omissionMask = omissionMask
  }
}
