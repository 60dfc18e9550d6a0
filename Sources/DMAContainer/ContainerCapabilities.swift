public import Addressing
public import IOVAMapping

/// What a container allows of map and unmap.
public struct ContainerCapabilities: Hashable, Sendable {
  /// Page sizes of the IOMMU; the smallest is the alignment of every map and unmap.
  public var pageSizes: PageSizeSet
  /// What an unmap that cuts a mapping means to the backend.
  public var bisectPolicy: BisectPolicy
  /// Mappings the backend holds at most; nil when it states no limit.
  public var mappingCountMax: Int?
  /// IOVA that may be mapped; empty means all of it.
  public var validRanges: [IOVARange]
  /// One call removes a mapping and reports its dirt (VFIO_IOMMU_UNMAP_DMA with
  /// VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP). False: the logs are asked first, or last, see
  /// ``DirtyLogCapabilities/isAskedAfterUnmap``.
  public var hasAtomicUnmap: Bool
  /// Largest bitmap, in bytes, of one atomic unmap. A larger range is unmapped in chunks.
  public var unmapBitmapByteCountMax: UInt64

  public init(
    pageSizes: PageSizeSet = PageSizeSet(.fourKiB), bisectPolicy: BisectPolicy = .refuse,
    mappingCountMax: Int? = nil, validRanges: [IOVARange] = [], hasAtomicUnmap: Bool = false,
    unmapBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax
  ) {
    self.pageSizes = pageSizes
    self.bisectPolicy = bisectPolicy
    self.mappingCountMax = mappingCountMax
    self.validRanges = validRanges
    self.hasAtomicUnmap = hasAtomicUnmap
    self.unmapBitmapByteCountMax = unmapBitmapByteCountMax
  }
}

/// What a dirty log allows of its queries.
public struct DirtyLogCapabilities: Hashable, Sendable {
  public var scope: DirtyScope
  /// Page sizes a query may ask for.
  public var pageSizes: PageSizeSet
  /// Largest bitmap of one query, in bytes.
  public var queryBitmapByteCountMax: UInt64
  /// A window may hold addresses that are not mapped. False for iommufd, whose walk ends silently
  /// at the first hole.
  public var mayCrossHoles: Bool
  /// A window may begin or end inside a mapping. True for device logs only.
  public var mayCutMapping: Bool
  /// A query can leave the log as it is (IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR).
  public var canPeek: Bool
  /// What the log reads and clears together; ``DirtyLogGranule/page`` where every page is known by
  /// itself. Stated by each log, as a wrong one loses pages. Larger ones only where
  /// ``rangeCountMax`` is stated.
  public var granule: DirtyLogGranule
  /// Ranges `start` accepts, fixed until `stop`: a device log. Nil: the log follows the mappings.
  public var rangeCountMax: Int?
  /// Answers for a range also after it was unmapped, so that asking last leaves no window: a device
  /// log.
  public var isAskedAfterUnmap: Bool

  public init(
    scope: DirtyScope, pageSizes: PageSizeSet = PageSizeSet(.fourKiB),
    queryBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax, mayCrossHoles: Bool,
    mayCutMapping: Bool, canPeek: Bool, granule: DirtyLogGranule, rangeCountMax: Int? = nil,
    isAskedAfterUnmap: Bool = false
  ) {
    self.scope = scope
    self.pageSizes = pageSizes
    self.queryBitmapByteCountMax = queryBitmapByteCountMax
    self.mayCrossHoles = mayCrossHoles
    self.mayCutMapping = mayCutMapping
    self.canPeek = canPeek
    self.granule = granule
    self.rangeCountMax = rangeCountMax
    self.isAskedAfterUnmap = isAskedAfterUnmap
  }
}
