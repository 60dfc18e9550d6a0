import Addressing

/// A container, group or device of VFIO could not be opened, attached or asked about itself.
/// Nothing was mapped or started.
public struct VFIOError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was done to, by name or path.
  public let object: String
  /// `open`, or the kernel's name of the ioctl.
  public let operation: String
  /// A positive errno of Linux; 0 when no call failed and the answer itself was wrong.
  public let errno: Int32
  /// What it means and what to do, a clause without full stop; may be empty.
  public let detail: String

  public init(object: String, operation: String, errno: Int32, detail: String = "") {
    self.object = object
    self.operation = operation
    self.errno = errno
    self.detail = detail
  }

  /// `group 12: VFIO_GROUP_GET_STATUS failed with EINVAL: …`
  public var description: String {
    var text = "\(object): \(operation) failed"
    if errno != 0 { text += " with \(ErrorNumber.name(errno))" }
    if !detail.isEmpty { text += ": \(detail)" }
    return text
  }
}
