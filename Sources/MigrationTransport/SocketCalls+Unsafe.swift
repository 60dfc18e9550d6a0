import Glibc

/// Sockets with addresses.
///
/// Unsafe because socket addresses are structs of varying size given by address. Sound because each
/// is a local, given with its own size, or one of getaddrinfo's list, which is freed afterwards.
enum SocketCalls {
  private static let stream = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

  /// Connections that wait: strangers may come before the one that is meant.
  private static let backlogCount: Int32 = 16

  /// What is done with a socket and an address: connect or bind.
  typealias Use = (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int

  /// - Precondition: the path fits; ``MigrationAddress`` saw to it.
  static func unix(_ path: String, _ use: Use) -> Int {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { buffer in
      precondition(path.utf8.count < buffer.count, "the path does not fit a socket address")
      unsafe buffer.copyBytes(from: path.utf8)
    }
    let descriptor = SystemCalls.result(Int(socket(AF_UNIX, stream, 0)))
    guard descriptor >= 0 else { return descriptor }
    let used = unsafe withUnsafePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        unsafe use(Int32(descriptor), generic, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    return finish(Int32(descriptor), used)
  }

  /// Results from here down are names that have no address: this plus the negative of what
  /// getaddrinfo answered, which is negative itself.
  private static let unresolved = -1_000_000

  /// What `value` says when it is about a name; nil when it is an errno.
  static func resolutionText(_ value: Int) -> String? {
    // getaddrinfo's own answers are a few hundred at most.
    guard value < unresolved / 2 else { return nil }
    guard let text = unsafe gai_strerror(Int32(unresolved &- value)) else { return "no address" }
    return unsafe String(cString: text)
  }

  /// The first of the host's addresses that works.
  static func tcp(_ host: String, _ port: UInt16, listening: Bool, _ use: Use) -> Int {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    if listening { unsafe hints.ai_flags = AI_PASSIVE }
    var list: UnsafeMutablePointer<addrinfo>?
    let found = unsafe getaddrinfo(host, String(port), &hints, &list)
    guard found == 0 else { return found == EAI_SYSTEM ? -Int(errno) : unresolved &- Int(found) }
    defer { unsafe freeaddrinfo(list) }
    var last = -Int(EHOSTUNREACH)
    var entry = unsafe list
    while let info = unsafe entry {
      unsafe entry = info.pointee.ai_next
      let descriptor = unsafe SystemCalls.result(Int(socket(info.pointee.ai_family, stream, 0)))
      guard descriptor >= 0, let address = unsafe info.pointee.ai_addr else {
        last = descriptor
        continue
      }
      if listening { setReuse(Int32(descriptor)) }
      let used = unsafe use(Int32(descriptor), address, info.pointee.ai_addrlen)
      last = finish(Int32(descriptor), used)
      if last >= 0 { return last }
    }
    return last
  }

  /// How long a connect may take; the kernel holds it against the time for sending.
  static func connect(timeoutMilliseconds: Int?) -> Use {
    { (descriptor, address, size) in
      let value = SystemCalls.retrying(within: timeoutMilliseconds) { left in
        // The kernel starts the time again with each call: one that a signal ended gets the rest.
        if left >= 0 {
          let set = SystemCalls.setTimeout(descriptor, milliseconds: max(1, Int(left)))
          if set < 0 { return set }
        }
        return unsafe SystemCalls.result(Int(Glibc.connect(descriptor, address, size)))
      }
      // What a connect answers when its time is over; the last is of one that was interrupted.
      let timedOut = [EINPROGRESS, EAGAIN, EALREADY].map { -Int($0) }
      return timedOut.contains(value) ? -Int(ETIMEDOUT) : value
    }
  }

  static func bindAndListen(
    _ descriptor: Int32, _ address: UnsafePointer<sockaddr>, _ size: socklen_t
  ) -> Int {
    let bound = unsafe SystemCalls.result(Int(bind(descriptor, address, size)))
    return bound < 0 ? bound : SystemCalls.result(Int(listen(descriptor, backlogCount)))
  }

  static func accept(_ descriptor: Int32) -> Int {
    let value = SystemCalls.retrying { Int(Glibc.accept(descriptor, nil, nil)) }
    if value >= 0 { SystemCalls.closeOnExec(Int32(value)) }
    return value
  }

  /// The port a TCP socket is bound to.
  static func port(of descriptor: Int32) -> UInt16? {
    var storage = sockaddr_storage()
    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return unsafe withUnsafeMutablePointer(to: &storage) { pointer -> UInt16? in
      let ok = unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        unsafe getsockname(descriptor, generic, &size) == 0
      }
      guard ok else { return nil }
      // The port stands at the same place in both families.
      return unsafe pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { inet in
        unsafe UInt16(bigEndian: inet.pointee.sin_port)
      }
    }
  }

  private static func setReuse(_ descriptor: Int32) {
    var on: Int32 = 1
    _ = unsafe setsockopt(
      descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
  }

  private static func finish(_ descriptor: Int32, _ used: Int) -> Int {
    if used < 0 { close(descriptor) }
    return used < 0 ? used : Int(descriptor)
  }
}

extension SocketCalls {
  static func connectUnix(_ path: String, timeoutMilliseconds: Int? = nil) -> Int {
    unsafe unix(path, connect(timeoutMilliseconds: timeoutMilliseconds))
  }
  static func listenUnix(_ path: String) -> Int { unsafe unix(path, bindAndListen) }
  static func connectTCP(_ host: String, _ port: UInt16, timeoutMilliseconds: Int?) -> Int {
    unsafe tcp(host, port, listening: false, connect(timeoutMilliseconds: timeoutMilliseconds))
  }
  static func listenTCP(_ host: String, _ port: UInt16) -> Int {
    unsafe tcp(host, port, listening: true, bindAndListen)
  }
}

extension SystemCalls {
  /// Removes a socket nobody listens on. Anything else at `path` stays, and is an error of `bind`.
  static func removeStaleSocket(_ path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
      return
    }
    let probe = SocketCalls.connectUnix(path)
    if probe >= 0 { close(Int32(probe)) }
    if probe == -Int(ECONNREFUSED) { remove(path) }
  }
}
