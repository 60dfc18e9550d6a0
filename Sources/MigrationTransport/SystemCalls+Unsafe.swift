import Addressing
import DeviceMigration
import Glibc

/// The calls of Linux a transport makes. Results are 0 or more, or a negative errno, read at once.
///
/// Unsafe because the calls take addresses and varying arguments. Sound because every buffer is a
/// span or a local that lives through the call, given with its own size.
enum SystemCalls {
  enum Kind { case socket, pipe, file }

  static func result(_ value: Int) -> Int { value >= 0 ? value : -Int(errno) }

  /// Repeats a call that waits and that a signal ended, as long as its time is not over: signals
  /// that come faster than its timeout would otherwise keep it from ever timing out.
  /// - Parameters:
  ///   - milliseconds: all it may wait; nil or negative for ever.
  ///   - body: is given what is left of them, -1 for ever.
  static func retrying(
    within milliseconds: Int?, _ body: (_ left: Int32) -> Int
  ) -> Int {
    guard let milliseconds, milliseconds >= 0 else { return retrying { body(-1) } }
    let begin = monotonicMilliseconds
    var left = milliseconds
    while true {
      let value = result(body(Int32(clamping: left)))
      if value != -Int(EINTR) { return value }
      left = milliseconds - (monotonicMilliseconds - begin)
      if left <= 0 { return -Int(ETIMEDOUT) }
    }
  }

  private static var monotonicMilliseconds: Int {
    var now = timespec()
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000 + now.tv_nsec / 1_000_000
  }

  /// A call on a socket, which waits by itself with the timeout that was set on it. After a signal
  /// what is left of that is waited for first.
  private static func onSocket(
    _ descriptor: Int32, writing: Bool, within milliseconds: Int?, _ body: () -> Int
  ) -> Int {
    guard let milliseconds else { return retrying(body) }
    var isFirst = true
    let value = retrying(within: milliseconds) { left in
      if isFirst {
        isFirst = false
        return body()
      }
      var entry = pollfd(
        fd: descriptor, events: Int16(writing ? POLLOUT : POLLIN), revents: 0)
      let ready = unsafe Int(poll(&entry, 1, left))
      if ready < 0 { return ready }
      // It is ready, or at its end, so that the call does not wait.
      return ready == 0 ? timedOut() : body()
    }
    return value == -Int(ETIMEDOUT) ? -Int(EAGAIN) : value
  }

  private static func timedOut() -> Int {
    errno = ETIMEDOUT
    return -1
  }

  /// Repeats a call that a signal ended.
  static func retrying(_ body: () -> Int) -> Int {
    while true {
      let value = result(body())
      if value != -Int(EINTR) { return value }
    }
  }

  static func text(_ errorNumber: Int32) -> String {
    guard let text = unsafe strerror(errorNumber) else { return "errno \(errorNumber)" }
    return unsafe String(cString: text)
  }

  static func kind(of descriptor: Int32) -> Result<Kind, ChannelErrno> {
    var status = stat()
    let value = unsafe result(Int(fstat(descriptor, &status)))
    if value < 0 { return .failure(ChannelErrno(Int32(-value))) }
    switch status.st_mode & S_IFMT {
    case S_IFSOCK: return .success(.socket)
    case S_IFIFO, S_IFCHR: return .success(.pipe)
    default: return .success(.file)
    }
  }

  /// One write. A socket whose other side is gone answers EPIPE; no signal is raised for it.
  /// - Parameter timeout: milliseconds a socket may wait; nil for ever.
  static func write(
    _ bytes: RawSpan, to descriptor: Int32, isSocket: Bool, timeout: Int?
  ) -> Int {
    unsafe bytes.withUnsafeBytes { buffer in
      guard isSocket else {
        return retrying { unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count) }
      }
      return onSocket(descriptor, writing: true, within: timeout) {
        unsafe send(descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
      }
    }
  }

  /// - Parameter timeout: milliseconds a socket may wait; nil for ever, and for what does not wait.
  static func read(
    into bytes: inout MutableRawSpan, from descriptor: Int32, timeout: Int?
  ) -> Int {
    unsafe bytes.withUnsafeMutableBytes { buffer in
      onSocket(descriptor, writing: false, within: timeout) {
        unsafe Glibc.read(descriptor, buffer.baseAddress, buffer.count)
      }
    }
  }

  /// A pipe has no MSG_NOSIGNAL: SIGPIPE is ignored in this process from now on, unless somebody
  /// handles it. Done once, for the first pipe.
  static let pipeSignalIgnored: Bool = {
    var action = sigaction()
    guard unsafe sigaction(SIGPIPE, nil, &action) == 0 else { return false }
    let isDefault = unsafe action.__sigaction_handler.sa_handler == nil
    if isDefault { _ = Glibc.signal(SIGPIPE, SIG_IGN) }
    return true
  }()

  /// Waits until `descriptor` or `wake` is ready.
  /// - Returns: 1 when `descriptor` is, 0 when nothing was in time or `wake` was.
  static func wait(
    for descriptor: Int32, writing: Bool, or wake: Int32, milliseconds: Int32
  ) -> Int {
    var entries = [
      pollfd(fd: descriptor, events: Int16(writing ? POLLOUT : POLLIN), revents: 0),
      pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
    ]
    let value = retrying(within: milliseconds < 0 ? nil : Int(milliseconds)) { left in
      unsafe Int(poll(&entries, 2, left))
    }
    if value == -Int(ETIMEDOUT) { return 0 }
    if value <= 0 { return value }
    return entries[0].revents != 0 && entries[1].revents == 0 ? 1 : 0
  }

  static func setTimeout(_ descriptor: Int32, milliseconds: Int?) -> Int {
    let all = milliseconds ?? 0
    var time = timeval(tv_sec: all / 1000, tv_usec: all % 1000 * 1000)
    let size = socklen_t(MemoryLayout<timeval>.size)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      let value = unsafe result(Int(setsockopt(descriptor, SOL_SOCKET, option, &time, size)))
      if value < 0 { return value }
    }
    return 0
  }

  /// Asks for buffers of a Unix socket that hold some sections, so that neither side waits for the
  /// other at each one: a third of the time of a first pass. The system gives what it allows, which
  /// may be less. TCP is left to size its own.
  static func enlargeBuffers(_ descriptor: Int32, byteCount: Int32) {
    var size = socklen_t(MemoryLayout<Int32>.size)
    var domain: Int32 = 0
    guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0,
      domain == AF_UNIX
    else { return }
    var count = byteCount
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &count, size)
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &count, size)
  }

  /// For a stream of many small answers between large writes.
  static func disableDelay(_ descriptor: Int32) {
    var on: Int32 = 1
    _ = unsafe setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
  }

  static func wakePair() -> (reading: Int32, writing: Int32)? {
    var pair: [Int32] = [-1, -1]
    guard unsafe pipe(&pair) == 0 else { return nil }
    for descriptor in pair {
      closeOnExec(descriptor)
      doNotBlock(descriptor)
    }
    return (pair[0], pair[1])
  }

  static func closeOnExec(_ descriptor: Int32) { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }

  static func doNotBlock(_ descriptor: Int32) {
    let flags = fcntl(descriptor, F_GETFL)
    if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) }
  }

  static func remove(_ path: String) { _ = unsafe unlink(path) }

  static func pair() -> (Int32, Int32)? {
    var pair: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard unsafe socketpair(AF_UNIX, kind, 0, &pair) == 0 else { return nil }
    return (pair[0], pair[1])
  }

  static func openFile(_ path: String, writing: Bool) -> Int {
    let flags = writing ? O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC : O_RDONLY | O_CLOEXEC
    return retrying { unsafe Int(open(path, flags, 0o600)) }
  }
}

/// A positive errno.
struct ChannelErrno: Error {
  let rawValue: Int32
  init(_ rawValue: Int32) { self.rawValue = rawValue }
}

extension SystemCalls {
  /// One byte into a pipe that does not block; when it is full, whoever waits is awake already.
  static func wakeUp(_ descriptor: Int32) {
    var byte: UInt8 = 1
    _ = unsafe Glibc.write(descriptor, &byte, 1)
  }
}
