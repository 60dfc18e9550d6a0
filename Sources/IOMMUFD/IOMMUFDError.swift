import Addressing
import DMAContainer

/// An iommufd or a device could not be opened, bound, attached or asked about itself. Nothing was
/// mapped or started, and what the failed step had made is gone again.
public struct IOMMUFDError: Error, Hashable, Sendable, CustomStringConvertible {
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

  /// `nic: IOMMU_HWPT_ALLOC failed with EOPNOTSUPP: …`
  public var description: String {
    var text = "\(object): \(operation) failed"
    if errno != 0 { text += " with \(ErrorNumber.name(errno))" }
    if !detail.isEmpty { text += ": \(detail)" }
    return text
  }
}

/// Errors of Linux by number (`asm-generic/errno.h`), as iommufd answers them.
enum IOMMUFDErrno {
  static let eperm: Int32 = 1
  static let enoent = ContainerErrno.enoent
  static let einval = ContainerErrno.einval
  static let ebusy = ContainerErrno.ebusy
  static let enotty = ContainerErrno.enotty
  static let edeadlock: Int32 = 35
  static let emsgsize: Int32 = 90
  static let eopnotsupp = ContainerErrno.eopnotsupp
}
