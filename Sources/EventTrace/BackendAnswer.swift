public import Addressing
public import Snapshot

/// What a container, or one of its dirty logs, answered to one call.
public struct BackendAnswer: Hashable, Sendable {
  public enum Call: UInt8, Hashable, Sendable, CaseIterable {
    case map = 1
    case unmap = 2
    case unmapWithDirty = 3
    case startLog = 4
    case stopLog = 5
    case query = 6
  }

  public var container: UInt16
  /// The log by its place in the container's logs; nil: the container itself.
  public var log: UInt16?
  public var call: Call
  /// What was asked about; the window of a query.
  public var range: IOVARange?
  /// Bytes an unmap removed.
  public var unmappedByteCount: UInt64
  /// The pages the call reported, sorted, none touching the next; also those of a call that failed.
  public var dirty: [IOVARange]
  /// Calls of the same operation, after the last answer written down, that succeeded, removed what
  /// was asked for and reported nothing: they are not written down.
  public var cleanCallCountBefore: UInt64
  /// Nil: it succeeded.
  public var failure: TraceFailure?

  public init(
    container: UInt16, log: UInt16? = nil, call: Call, range: IOVARange? = nil,
    unmappedByteCount: UInt64 = 0, dirty: [IOVARange] = [], cleanCallCountBefore: UInt64 = 0,
    failure: TraceFailure? = nil
  ) {
    self.container = container
    self.log = log
    self.call = call
    self.range = range
    self.unmappedByteCount = unmappedByteCount
    self.dirty = dirty
    self.cleanCallCountBefore = cleanCallCountBefore
    self.failure = failure
  }
}
