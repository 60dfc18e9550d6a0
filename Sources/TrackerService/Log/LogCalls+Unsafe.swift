import Glibc

/// The calls of Linux that a log makes.
///
/// Unsafe because the calls take addresses. Sound because each is that of a local or an array that
/// lives through the call, given with its own size.
enum LogCalls {
  struct File: Equatable {
    let device: UInt64
    let inode: UInt64
  }

  /// What a descriptor is open on.
  static func file(of descriptor: Int32) -> File? {
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else { return nil }
    return File(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  /// One write(2), if there is room now. A pipe that is ready takes 4096 bytes; a socket is asked
  /// not to wait. Whether that number was made non-blocking is not ours to say: the descriptor may
  /// be shared with other processes.
  /// - Returns: whether all of it went out.
  static func write(_ text: String, to descriptor: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    guard unsafe poll(&entry, 1, 0) == 1, Int32(entry.revents) & POLLOUT != 0 else { return false }
    let bytes = Array(text.utf8)
    while true {
      var count = unsafe send(
        descriptor, bytes, bytes.count,
        Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
      if count < 0, errno == ENOTSOCK {
        count = unsafe Glibc.write(descriptor, bytes, bytes.count)
      }
      if count >= 0 { return count == bytes.count }
      if errno != EINTR { return false }
    }
  }
}
