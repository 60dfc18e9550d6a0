public import Addressing

/// One `iommu:map` or `iommu:unmap` of a recording.
public struct FtraceEvent: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// `paddr` is what the recording kernel took for physical: in a guest, the GPA.
    case map(iova: IOVARange, gpaFirst: GPA)
    case unmap(iova: IOVARange, unmappedByteCount: UInt64)
  }

  public let kind: Kind
  /// By the recording's clock; 0 where the line states none.
  public let timestampNanoseconds: UInt64
  /// From 1.
  public let line: Int

  public init(kind: Kind, timestampNanoseconds: UInt64, line: Int) {
    self.kind = kind
    self.timestampNanoseconds = timestampNanoseconds
    self.line = line
  }

  /// The event as a tracker would have been told of it. The recording does not state permissions:
  /// a map counts as read and write, since a page that may be written must not be missed.
  public func trackerEvent(container: UInt16) -> TrackerEvent {
    switch kind {
    case .map(let iova, let gpaFirst):
      .mapped(container: container, iova: iova, gpaFirst: gpaFirst, permissions: .readWrite)
    case .unmap(let iova, _): .unmapped(container: container, iova: iova)
    }
  }
}
