import Addressing

/// Something between this process and the other side of a vfio-user connection went wrong.
public struct VFIOUserError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What happened; what is left to do follows from it.
  public enum Reason: String, Hashable, Sendable {
    /// The peer answered with an error. The connection stays up.
    case refused
    /// A message that is framed well and says something its command does not allow. A command is
    /// answered with `errno`, an answer is not used. The connection stays up.
    case malformed
    /// The peer broke the framing or the order of messages: the connection is closed.
    case protocolBroken = "protocol broken"
    /// No answer in time. What the command did is not known; the connection is closed.
    case timedOut = "no answer in time"
    /// The peer is gone, or the connection was closed before.
    case connectionLost = "connection lost"
    /// More than the peer accepts, or than this side holds. Nothing was sent.
    case limit = "past a limit"
    /// The kernel refused a call.
    case system = "system call failed"
  }

  public let reason: Reason
  /// The connection, by name.
  public let object: String
  /// The command, in the protocol's word, or the call.
  public let operation: String
  /// A positive errno of Linux: the peer's word, or what a malformed command is answered with. 0
  /// when there is none.
  public let errno: Int32
  /// What else is known, a clause without full stop; may be empty.
  public let detail: String

  public init(
    _ reason: Reason, object: String = "vfio-user", operation: String, errno: Int32 = 0,
    detail: String = ""
  ) {
    self.reason = reason
    self.object = object
    self.operation = operation
    self.errno = errno
    self.detail = detail
  }

  /// The same about a connection with a name.
  func of(_ object: String) -> VFIOUserError {
    VFIOUserError(reason, object: object, operation: operation, errno: errno, detail: detail)
  }

  /// True when the connection can be used no more.
  public var endsConnection: Bool {
    switch reason {
    case .protocolBroken, .timedOut, .connectionLost: true
    case .refused, .malformed, .limit, .system: false
    }
  }

  /// `vfio-user nic: DMA_MAP: refused with EEXIST: …`
  public var description: String {
    var text = "\(object): \(operation): \(reason.rawValue)"
    if errno != 0 { text += " with \(ErrorNumber.name(errno))" }
    if !detail.isEmpty { text += ": \(detail)" }
    return text
  }
}

/// Errors of Linux by number, as this protocol uses them.
enum WireErrno {
  static let enoent: Int32 = 2
  static let eio: Int32 = 5
  static let enomem: Int32 = 12
  static let efault: Int32 = 14
  static let eexist: Int32 = 17
  static let einval: Int32 = 22
  static let enospc: Int32 = 28
  static let enotty: Int32 = 25
  static let eproto: Int32 = 71
  static let eopnotsupp: Int32 = 95
  static let eagain: Int32 = 11
  static let etimedout: Int32 = 110
}
