/// What a device says it still has to send. Bytes; nil means the device does not say, which is not
/// 0: a downtime predicted with a nil in it is a lower bound.
public struct PendingEstimate: Hashable, Sendable {
  /// Of the first pass, readable now. Preferably 0 before the device is stopped.
  public let precopyInitialBytes: UInt64?
  /// Changed since it was read, readable now.
  public let precopyDirtyBytes: UInt64?
  /// What stop-and-copy will give if it begins now, what is counted above included.
  public let stopCopyBytes: UInt64?
  /// New initial data came up since the last question: what `precopyInitialBytes` was before says
  /// nothing about what it is now.
  public let initialDataRestarted: Bool

  public init(
    precopyInitialBytes: UInt64? = nil, precopyDirtyBytes: UInt64? = nil,
    stopCopyBytes: UInt64? = nil, initialDataRestarted: Bool = false
  ) {
    self.precopyInitialBytes = precopyInitialBytes
    self.precopyDirtyBytes = precopyDirtyBytes
    self.stopCopyBytes = stopCopyBytes
    self.initialDataRestarted = initialDataRestarted
  }

  /// Nothing is known.
  public static let unknown = PendingEstimate()

  /// Readable while the device works; nil when neither part is known.
  public var precopyBytes: UInt64? {
    guard precopyInitialBytes != nil || precopyDirtyBytes != nil else { return nil }
    return (precopyInitialBytes ?? 0).addingSaturating(precopyDirtyBytes ?? 0)
  }
}
