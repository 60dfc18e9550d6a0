public import DMAContainer

/// A device of a type1 container, as far as it matters to what the container knows of its writes.
public struct Type1Device: Sendable {
  public let name: String
  /// A mediated device, which reaches memory only through pages its driver pins. Nil: not known.
  public let isMediated: Bool?
  /// The device's own log of its DMA writes.
  public let log: (any DirtyLog)?

  public init(name: String, isMediated: Bool? = nil, log: (any DirtyLog)? = nil) {
    self.name = name
    self.isMediated = isMediated
    self.log = log
  }
}
