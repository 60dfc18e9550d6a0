public import Addressing

/// How a tracker was made.
public struct TraceConfiguration: Hashable, Sendable {
  public var pageSize: PageSize
  /// Pinned pages are sent in every round rather than in stop-and-copy.
  public var sendsPinnedEveryRound: Bool
  /// The steps left out on purpose, a bit each, as the tracker numbers them.
  public var omissionMask: UInt8

  public init(
    pageSize: PageSize = .fourKiB, sendsPinnedEveryRound: Bool = false, omissionMask: UInt8 = 0
  ) {
    self.pageSize = pageSize
    self.sendsPinnedEveryRound = sendsPinnedEveryRound
    self.omissionMask = omissionMask
  }
}
