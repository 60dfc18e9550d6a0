import Addressing
import Glibc

/// An open file of the kernel's, used without any module of the project: what the tests compare
/// those with.
///
/// Unsafe because the kernel is handed addresses. Sound because each is that of an array that
/// outlives the call, and `argsz` or the count says no more than it has.
final class KernelFile {
  let descriptor: Int32

  init(_ path: String) throws {
    descriptor = unsafe open(path, O_RDWR | O_CLOEXEC)
    if descriptor < 0 { throw LabError("\(path) can not be opened: \(Errno.name(errno))") }
  }

  init(owning descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// `ioctl(2)` with a structure, in and out.
  /// - Returns: what the kernel does, or an errno, negative.
  func control(_ number: UInt, _ bytes: inout [UInt8]) -> Int32 {
    let result = unsafe bytes.withUnsafeMutableBytes {
      unsafe ioctl(descriptor, number, $0.baseAddress!)
    }
    return result < 0 ? -errno : result
  }

  /// `ioctl(2)` with a number.
  func control(_ number: UInt, value: Int = 0) -> Int32 {
    let result = ioctl(descriptor, number, CInt(value))
    return result < 0 ? -errno : result
  }

  func read(at offset: UInt64, byteCount: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let count = unsafe pread(descriptor, &bytes, byteCount, Int(offset))
    guard count == byteCount else {
      throw LabError("read of \(byteCount) bytes at \(offset) gave \(count): \(Errno.name(errno))")
    }
    return bytes
  }

  /// The bytes, or an errno.
  func attempt(at offset: UInt64, byteCount: Int) -> (bytes: [UInt8], errno: Int32) {
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let count = unsafe pread(descriptor, &bytes, byteCount, Int(offset))
    return (bytes, count == byteCount ? 0 : errno)
  }

  /// - Returns: 0, or an errno.
  func write(_ bytes: [UInt8], at offset: UInt64) -> Int32 {
    unsafe pwrite(descriptor, bytes, bytes.count, Int(offset)) == bytes.count ? 0 : errno
  }
}

/// Something the test itself needs did not work.
struct LabError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

enum Errno {
  static func name(_ errno: Int32) -> String {
    errno == 0 ? "ok" : ErrorNumber.name(errno)
  }
}

/// The clock of the guest, in nanoseconds.
func nanoseconds() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
