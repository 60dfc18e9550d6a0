public import Addressing

/// How a tracker was made.
public struct TraceConfiguration: Hashable, Sendable {
  public var pageSize: PageSize
  /// Pinned pages are sent in every round rather than in stop-and-copy.
  public var sendsPinnedEveryRound: Bool
  /// The steps left out on purpose, a bit each, as the tracker numbers them.
  public var omissionMask: UInt8
  /// A two-step unmap asks and trusts the guest, rather than to mark all of the mapping.
  public var trustsGuest: Bool
  /// Writable pages outside the ranges of a device log before it is restarted.
  public var rearmPageCount: UInt64
  /// Bytes of one mapping of RAM in an identity container that cannot cut a mapping.
  public var identityMappingByteCountMax: UInt64

  public init(
    pageSize: PageSize = .fourKiB, sendsPinnedEveryRound: Bool = false, omissionMask: UInt8 = 0,
    trustsGuest: Bool = false, rearmPageCount: UInt64 = 1024,
    identityMappingByteCountMax: UInt64 = 1 << 30
  ) {
    self.pageSize = pageSize
    self.sendsPinnedEveryRound = sendsPinnedEveryRound
    self.omissionMask = omissionMask
    self.trustsGuest = trustsGuest
    self.rearmPageCount = rearmPageCount
    self.identityMappingByteCountMax = identityMappingByteCountMax
  }
}
