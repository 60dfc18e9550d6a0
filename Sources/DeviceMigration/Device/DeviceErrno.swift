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

  private static let names: [Int32: String] = [
    5: "EIO", 7: "E2BIG", 9: "EBADF", 12: "ENOMEM", 14: "EFAULT", 16: "EBUSY", 19: "ENODEV",
    22: "EINVAL", 25: "ENOTTY", 28: "ENOSPC", 42: "ENOMSG", 71: "EPROTO", 75: "EOVERFLOW",
    95: "EOPNOTSUPP",
  ]

  /// `EINVAL`, or `errno 4` where there is no name here.
  public var description: String { Self.names[rawValue] ?? "errno \(rawValue)" }
}
