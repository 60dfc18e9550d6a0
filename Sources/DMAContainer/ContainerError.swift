public import Addressing

/// A container, or one of its dirty logs, said no. The caller decides what is marked dirty for it.
public struct ContainerError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Operation: String, Sendable, Hashable {
    case map
    case unmap
    case unmapWithDirty = "unmap with dirty bitmap"
    case startLog = "start of the dirty log"
    case stopLog = "stop of the dirty log"
    case query = "dirty query"
    case invalidateAddresses = "invalidation of addresses"
    case updateAddress = "update of an address"
  }

  public let operation: Operation
  /// The container or log, by name.
  public let object: String
  public let range: IOVARange?
  /// A positive errno of Linux; 0 when no call failed.
  public let errno: Int32
  /// What else is known, a clause without full stop; may be empty.
  public let detail: String
  /// An unmap that failed half way: some of the range may be gone already.
  public let isPartial: Bool
  /// An unmap after which nothing is mapped in the range, though it failed: its caller drops the
  /// mappings, and marks them. False where the backend does not know.
  public let isGone: Bool

  public init(
    _ operation: Operation, object: String, range: IOVARange? = nil, errno: Int32,
    detail: String = "", isPartial: Bool = false, isGone: Bool = false
  ) {
    self.operation = operation
    self.object = object
    self.range = range
    self.errno = errno
    self.detail = detail
    self.isPartial = isPartial
    self.isGone = isGone
  }

  /// `container nic: unmap of IOVA 0x1000-0x1fff failed with EINVAL: the range cuts a mapping`
  public var description: String {
    var text = "container \(object): \(operation.rawValue)"
    if let range { text += " of IOVA \(range)" }
    text += " failed"
    if errno != 0 { text += " with \(ContainerErrno.name(errno))" }
    if !detail.isEmpty { text += ": \(detail)" }
    return text
  }
}

/// Errors of Linux by number (`asm-generic/errno.h`), as containers answer them.
public enum ContainerErrno {
  public static let eperm: Int32 = 1
  public static let enoent: Int32 = 2
  public static let eio: Int32 = 5
  public static let e2big: Int32 = 7
  public static let enomem: Int32 = 12
  public static let eacces: Int32 = 13
  public static let efault: Int32 = 14
  public static let ebusy: Int32 = 16
  public static let eexist: Int32 = 17
  public static let enodev: Int32 = 19
  public static let einval: Int32 = 22
  public static let enotty: Int32 = 25
  public static let enospc: Int32 = 28
  public static let eoverflow: Int32 = 75
  public static let eopnotsupp: Int32 = 95

  public static func name(_ errno: Int32) -> String { ErrorNumber.name(errno) }
}
