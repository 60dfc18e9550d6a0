public import Addressing

/// A container as the tracker saw it when it was added.
public struct TraceContainer: Hashable, Sendable {
  public var name: String
  /// The VMM maps and unmaps by itself; false: the tracker does.
  public var isOwnedByVMM: Bool
  /// IOVA is GPA; false: behind the virtual IOMMU.
  public var isIdentity: Bool
  /// Page sizes of the IOMMU, one bit each.
  public var pageSizes: PageSizeSet
  /// An unmap that cuts a mapping splits it; false: it is refused.
  public var splitsMappings: Bool
  public var mappingCountMax: Int?
  /// IOVA that may be mapped; empty means all of it.
  public var validRanges: [IOVARange]
  public var hasAtomicUnmap: Bool
  public var unmapBitmapByteCountMax: UInt64
  public var logs: [TraceLog]

  public init(
    name: String, isOwnedByVMM: Bool = false, isIdentity: Bool = false,
    pageSizes: PageSizeSet = PageSizeSet(.fourKiB), splitsMappings: Bool = false,
    mappingCountMax: Int? = nil, validRanges: [IOVARange] = [], hasAtomicUnmap: Bool = false,
    unmapBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax, logs: [TraceLog] = []
  ) {
    self.name = name
    self.isOwnedByVMM = isOwnedByVMM
    self.isIdentity = isIdentity
    self.pageSizes = pageSizes
    self.splitsMappings = splitsMappings
    self.mappingCountMax = mappingCountMax
    self.validRanges = validRanges
    self.hasAtomicUnmap = hasAtomicUnmap
    self.unmapBitmapByteCountMax = unmapBitmapByteCountMax
    self.logs = logs
  }
}
