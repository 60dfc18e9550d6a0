public import Addressing

/// Mappings that lie side by side in IOVA, wherever they map to, and all may be written or none.
public struct MappingExtent: Hashable, Sendable {
  public let iova: IOVARange
  public let isWritable: Bool

  public init(iova: IOVARange, isWritable: Bool) {
    self.iova = iova
    self.isWritable = isWritable
  }
}
