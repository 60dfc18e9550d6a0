public import Addressing

/// What a cut of a mapping by an unmap means.
public enum BisectPolicy: UInt8, Sendable, Hashable {
  /// It is refused and changes nothing: type1 v2 and iommufd.
  case refuse = 1
  /// The parts outside the range stay mapped: invalidations in the manner of VT-d.
  case split = 2
}

/// Why a table did not change. When one is thrown it is exactly as before.
public enum MappingError: Error, Hashable, Sendable, CustomStringConvertible {
  case overlap(new: IOVARange, existing: Mapping)
  case wouldBisect(range: IOVARange, mapping: Mapping)
  case unaligned(iova: IOVARange, gpaFirst: GPA, pageSize: PageSize)
  case tooManyMappings(limit: Int)
  case mappingTooLarge(IOVARange, byteCountMax: UInt64)
  case gpaOverflow(IOVARange, gpaFirst: GPA)

  public var description: String {
    switch self {
    case .overlap(let new, let existing):
      "IOVA \(new) overlaps the mapping \(existing); nothing was mapped"
    case .wouldBisect(let range, let mapping):
      "unmapping IOVA \(range) would cut the mapping \(mapping); nothing was unmapped"
    case .unaligned(let iova, let gpa, let pageSize):
      "IOVA \(iova) -> GPA \(gpa) is not made of whole pages of \(pageSize); nothing was mapped"
    case .tooManyMappings(let limit):
      "the table holds its limit of \(limit) mappings; nothing changed"
    case .mappingTooLarge(let iova, let max):
      "IOVA \(iova) has more than \(max) bytes, the limit of one mapping; nothing was mapped"
    case .gpaOverflow(let iova, let gpa):
      "IOVA \(iova) -> GPA \(gpa) runs past GPA 2^64-1; nothing was mapped"
    }
  }
}

/// What an unmap removed.
public struct UnmapResult: Sendable, Hashable {
  public var mappingCount = 0
  /// Pages of 4 KiB.
  public var pageCount: UInt64 = 0
  /// The table's generation afterwards; unchanged when nothing was mapped in the range.
  public var generation: Generation
}

/// A mapping that was unmapped, and when.
public struct RetiredMapping: Hashable, Sendable {
  public let mapping: Mapping
  public let retired: Generation
}
