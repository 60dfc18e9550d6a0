public import Addressing

/// What a recording holds, and what is not as it should be.
public struct FtraceSummary: Hashable, Sendable {
  public var lineCount = 0
  public var mapCount = 0
  public var unmapCount = 0
  /// Events other than `iommu:map` and `iommu:unmap`, left out.
  public var otherEventCount = 0
  /// Lines that were left out because they are not understood.
  public var badLineCount = 0
  /// Events the recording kernel says it lost.
  public var lostEventCount: UInt64 = 0
  /// Maps of IOVA that was mapped. More than 0: several domains in one recording.
  public var mappedTwiceCount = 0
  public var firstMappedTwice: FtraceNote?
  /// Unmaps of IOVA that was not seen mapped.
  public var unmapOfNothingCount = 0
  /// The highest GPA mapped: how much memory the guest had at least.
  public var gpaLast: GPA?
  /// The first notes, at most as many as were asked for.
  public var notes: [FtraceNote] = []
  public var noteDroppedCount = 0

  public init() {}
}
