import Addressing

/// An error number of Linux (`asm-generic/errno.h`), as a device, real or simulated, answers.
public struct DeviceErrno: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: Int32
  public init(_ rawValue: Int32) { self.rawValue = rawValue }

  /// No call failed; the answer itself was wrong.
  public static let none = DeviceErrno(0)
  public static let eio = DeviceErrno(5)
  public static let e2big = DeviceErrno(7)
  public static let ebadf = DeviceErrno(9)
  public static let enomem = DeviceErrno(12)
  public static let efault = DeviceErrno(14)
  public static let ebusy = DeviceErrno(16)
  public static let enodev = DeviceErrno(19)
  public static let einval = DeviceErrno(22)
  public static let enotty = DeviceErrno(25)
  public static let enospc = DeviceErrno(28)
  public static let enomsg = DeviceErrno(42)
  public static let eproto = DeviceErrno(71)
  public static let eoverflow = DeviceErrno(75)
  public static let eopnotsupp = DeviceErrno(95)

  /// `EINVAL`, or `errno 4095` where there is no name.
  public var description: String { ErrorNumber.name(rawValue) }
}
