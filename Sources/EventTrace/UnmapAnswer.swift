public import Addressing

/// The bitmap a VMM got for its own unmap.
public struct UnmapAnswer: Hashable, Sendable {
  /// What the bitmap answers for; of the rest of the unmap nothing is known.
  public var window: IOVARange
  /// Of the bitmap's bits.
  public var pageSize: PageSize
  /// In IOVA order, inside the window.
  public var dirty: [IOVARange]

  public init(window: IOVARange, pageSize: PageSize = .fourKiB, dirty: [IOVARange]) {
    self.window = window
    self.pageSize = pageSize
    self.dirty = dirty
  }
}
