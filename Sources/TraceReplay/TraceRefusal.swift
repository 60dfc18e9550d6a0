/// Why a trace gives no state.
public enum TraceRefusal: Error, Hashable, Sendable, CustomStringConvertible {
  /// The record was full and dropped as many of its oldest events.
  case eventsMissing(UInt64)
  /// It has no event, or its first is not the making of a tracker.
  case noBeginning

  public var description: String {
    switch self {
    case .eventsMissing(let count):
      "the record was full and has dropped its \(count) oldest events: what is left gives no state"
    case .noBeginning: "it does not begin with the making of a tracker"
    }
  }
}
