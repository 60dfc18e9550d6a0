public import Addressing

/// What may be decided either way. The defaults lose nothing and send the least.
public struct TrackerPolicy: Sendable, Hashable {
  /// Pages that are dirty in every round because nothing better is known: pinned ones, and those
  /// of everything mapped.
  public enum PinnedPages: Sendable, Hashable {
    /// Held back in pre-copy, counted for the predicted downtime, reported in the final sync.
    case stopAndCopy
    /// Reported by every sync, as QEMU does.
    case everyRound
  }

  /// An unmap where asking for dirt and removing the mapping are two calls (iommufd), so that a
  /// write may land between them.
  public enum TwoStepUnmap: Sendable, Hashable {
    /// Whatever was mapped writable counts as written: nothing that lands in between is lost. An
    /// answer could change nothing, so the question is left out.
    case markMapping
    /// Ask, without clearing, then unmap: what the kernel's maintainers recommend. A guest that
    /// lets a device write to what it is unmapping loses that write.
    case trustGuest
  }

  public var pinnedPages: PinnedPages
  public var twoStepUnmap: TwoStepUnmap
  /// Pages of the guest dirty log and, where a log has a choice, of its queries.
  public var pageSize: PageSize
  /// Writable pages mapped outside the ranges of a device log before it is restarted.
  public var rearmPageCount: UInt64

  /// Bytes of one mapping of RAM in a container that is not behind a vIOMMU and cannot cut a
  /// mapping: as much is unmapped for a moment, and counts as written, for each page given back.
  public var identityMappingByteCountMax: UInt64

  public init(
    pinnedPages: PinnedPages = .stopAndCopy, twoStepUnmap: TwoStepUnmap = .markMapping,
    pageSize: PageSize = .fourKiB, rearmPageCount: UInt64 = 1024,
    identityMappingByteCountMax: UInt64 = 1 << 30
  ) {
    self.pinnedPages = pinnedPages
    self.twoStepUnmap = twoStepUnmap
    self.pageSize = pageSize
    self.rearmPageCount = rearmPageCount
    self.identityMappingByteCountMax = identityMappingByteCountMax
  }
}
