/// Names of Linux's error numbers, those of `asm-generic/errno.h` that a call of ours may answer.
public enum ErrorNumber {
  private static let names: [Int32: String] = [
    1: "EPERM", 2: "ENOENT", 4: "EINTR", 5: "EIO", 6: "ENXIO", 7: "E2BIG", 9: "EBADF",
    11: "EAGAIN", 12: "ENOMEM", 13: "EACCES", 14: "EFAULT", 16: "EBUSY", 17: "EEXIST",
    19: "ENODEV", 22: "EINVAL", 23: "ENFILE", 24: "EMFILE", 25: "ENOTTY", 28: "ENOSPC",
    32: "EPIPE", 35: "EDEADLK", 38: "ENOSYS", 42: "ENOMSG", 71: "EPROTO", 75: "EOVERFLOW",
    90: "EMSGSIZE", 95: "EOPNOTSUPP", 110: "ETIMEDOUT",
  ]

  /// `EINVAL`, or `errno 4095` where there is no name here.
  public static func name(_ errno: Int32) -> String { names[errno] ?? "errno \(errno)" }
}
