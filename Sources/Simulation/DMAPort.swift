public import Addressing

/// How a simulated device reaches memory: by IOVA, through the simulated IOMMU of its container as
/// it stands at that moment.
///
/// Translation, write and the mark in the dirty log are one step to an unmap: either the write is
/// seen by the log of the mapping it went through, or it does not happen.
public protocol DMAPort: AnyObject, Sendable {
  /// Writes all of `bytes`, or nothing where a page of them is not mapped writable.
  /// - Returns: the GPA of the first byte, nil when nothing was written.
  func write(_ bytes: RawSpan, at iova: IOVA) -> GPA?

  /// Fills `buffer`.
  /// - Returns: false, and leaves the buffer as it was, where a page is not mapped readable.
  func read(into buffer: inout MutableRawSpan, at iova: IOVA) -> Bool
}

/// Guest memory as devices see it: by GPA, past anything that watches the vCPUs' mapping.
public protocol SimulatedMemory: AnyObject, Sendable {
  /// - Returns: false, and writes nothing, when the bytes do not lie in one RAM region.
  func write(_ bytes: RawSpan, at gpa: GPA) -> Bool
  /// - Returns: false when the bytes do not lie in one RAM region.
  func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool
}
