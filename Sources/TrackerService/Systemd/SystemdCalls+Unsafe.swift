import Glibc

/// The calls of Linux by which a service talks to its manager.
///
/// Unsafe because socket addresses are given by address and size. Sound because each is a local,
/// given with the size that was filled, and bytes are an array that lives through the call.
enum SystemdCalls {
  static var processID: Int32 { getpid() }

  /// Sends one datagram. Waits for a manager that is busy, for some seconds and no longer.
  /// - Parameter address: a path, or `@` and a name in the abstract space.
  /// - Returns: 0, or an errno.
  static func notify(_ text: String, at address: String) -> Int32 {
    guard address.hasPrefix("/") || address.hasPrefix("@"), address.utf8.count > 1 else {
      return EAFNOSUPPORT
    }
    var target = sockaddr_un()
    target.sun_family = sa_family_t(AF_UNIX)
    guard address.utf8.count < MemoryLayout.size(ofValue: target.sun_path) else {
      return ENAMETOOLONG
    }
    unsafe withUnsafeMutableBytes(of: &target.sun_path) { path in
      unsafe path.copyBytes(from: address.utf8)
      // An abstract name begins with a zero, and ends where the address does.
      if address.hasPrefix("@") { unsafe path[0] = 0 }
    }
    let kind = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let descriptor = socket(AF_UNIX, kind, 0)
    guard descriptor >= 0 else { return errno }
    defer { close(descriptor) }
    var patience = timeval(tv_sec: 5, tv_usec: 0)
    _ = unsafe setsockopt(
      descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    let bytes = Array(text.utf8)
    let size = MemoryLayout<sa_family_t>.size + address.utf8.count
    let sent = unsafe withUnsafePointer(to: &target) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        unsafe sendto(
          descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL), generic, socklen_t(size))
      }
    }
    return sent == bytes.count ? 0 : errno
  }

  /// - Returns: whether it is open.
  static func closeOnExec(_ descriptor: Int32) -> Bool {
    let flags = fcntl(descriptor, F_GETFD)
    return flags >= 0 && fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) == 0
  }

  /// The path of a socket in the file system; nil for every other.
  static func boundPath(_ descriptor: Int32) -> String? {
    var address = sockaddr_un()
    var size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let status = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        unsafe getsockname(descriptor, generic, &size)
      }
    }
    let head = MemoryLayout<sa_family_t>.size
    guard status == 0, Int32(address.sun_family) == AF_UNIX, Int(size) > head else { return nil }
    let bytes = unsafe withUnsafeBytes(of: &address.sun_path) { path in
      unsafe Array(path.prefix(Int(size) - head).prefix { $0 != 0 })
    }
    return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
  }
}
