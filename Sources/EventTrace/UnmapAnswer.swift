public import Addressing

/// The bitmap a VMM got for its own unmap.
public struct UnmapAnswer: Hashable, Sendable {
  /// What the bitmap answers for; of the rest of the unmap nothing is known.
  public var window: IOVARange
  /// In IOVA order, inside the window.
  public var dirty: [IOVARange]

  public init(window: IOVARange, dirty: [IOVARange]) {
    self.window = window
    self.dirty = dirty
  }
}
