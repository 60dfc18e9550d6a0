/// A channel could not move bytes.
public struct ChannelError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The other side closed, or the file ended, before all bytes were there.
    case ended
    /// A call failed; see ``ChannelError/errorNumber``.
    case failed
    /// The channel has been closed or shut down on this side.
    case closed
    /// Nothing moved for as long as the channel was told to wait.
    case timedOut
  }

  public let reason: Reason
  /// The channel, by its address: `unix:/run/smudge.sock`, `fd 5`.
  public let channel: String
  /// What was asked: `read`, `write`, `connect`.
  public let operation: String
  /// A positive errno of Linux; 0 when no call failed.
  public let errorNumber: Int32
  /// What the system says about the errno; may be empty.
  public let detail: String

  public init(
    _ reason: Reason, channel: String, operation: String, errorNumber: Int32 = 0,
    detail: String = ""
  ) {
    self.reason = reason
    self.channel = channel
    self.operation = operation
    self.errorNumber = errorNumber
    self.detail = detail
  }

  public var description: String {
    let why =
      switch reason {
      case .ended: "the other side ended the stream"
      case .failed: detail.isEmpty ? "errno \(errorNumber)" : detail
      case .closed: "the channel is closed"
      case .timedOut: "nothing moved for too long"
      }
    return "\(operation) on \(channel) failed: \(why)"
  }
}

/// Bytes to another process or a file, in order. What a socket, a pipe or a file is to the stream.
/// One thread writes and one reads at a time; `shutDown` may come from any.
public protocol ByteChannel: AnyObject, Sendable {
  /// How reports call it: `unix:/run/smudge.sock`.
  var name: String { get }
  /// Whether the other side can answer: false for a file or a pipe.
  var isBidirectional: Bool { get }

  /// Writes all of `bytes`.
  func write(_ bytes: RawSpan) throws(ChannelError)

  /// Reads at least one byte and at most what `buffer` holds. 0 only at the end of the stream.
  func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int

  /// Ends both directions: calls that wait, and all later ones, fail.
  func shutDown()
}
