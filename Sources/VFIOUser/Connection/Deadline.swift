/// A moment of the monotonic clock until which something is waited for.
struct Deadline: Sendable {
  /// Nil: for ever.
  private let atMilliseconds: Int64?

  /// - Parameter milliseconds: from now; nil for ever.
  init(milliseconds: Int?) {
    atMilliseconds = milliseconds.map { SocketSystem.nowMilliseconds + Int64(max(0, $0)) }
  }

  /// What poll(2) is given: -1 for ever, 0 when it is over.
  var leftMilliseconds: Int32 {
    guard let atMilliseconds else { return -1 }
    return Int32(clamping: max(0, atMilliseconds - SocketSystem.nowMilliseconds))
  }

  var isOver: Bool { leftMilliseconds == 0 }
}
