import COpenSSL
public import DeviceMigration
import Glibc
import Locking

/// A socket with TLS 1.3 on it: what goes over it is encrypted, and each side has shown who it is.
///
/// Invariants:
/// 1. No byte of the stream moves before the other side's certificate was found good, for the host
///    that was asked for where this side connected by name.
/// 2. One call of OpenSSL at a time: they share a lock, which no call waits in. The waiting is done
///    outside, so that one thread reads while another writes, and `shutDown` gets in.
/// 3. A stream that the peer, or somebody between, cuts off is an error, not an end.
///
/// Unsafe because OpenSSL's objects are addresses, and buffers are given by address. Sound because
/// the connection is made here, used under the lock only and freed once; buffers are spans that
/// live through the call, given with their own counts.
@safe public final class TLSChannel: ByteChannel, @unchecked Sendable {
  public let name: String
  public let isBidirectional = true
  let socket: FileDescriptorChannel
  private let descriptor: Int32
  private let timeoutMilliseconds: Int?
  private let context: TLSContext
  private let connection: OpaquePointer
  private let isShut = Mutex(false)

  /// Shakes hands. Takes `socket` over: nothing else may be read from it or written to it.
  /// - Parameter host: whom the other side must be, where this side connected: the name or the
  ///   address its certificate is for. Nil for any that an authority vouches for.
  public init(
    connecting socket: FileDescriptorChannel, _ context: TLSContext, host: String?
  ) throws(ChannelError) {
    unsafe (descriptor, connection) = try Self.prepare(socket, context)
    self.socket = socket
    self.context = context
    name = socket.name
    timeoutMilliseconds = socket.timeoutMilliseconds
    if let host { try expect(host) }
    unsafe SSL_set_connect_state(connection)
    try shakeHands { () throws(ChannelError) in try hearWelcome() }
  }

  /// Shakes hands with somebody who connected. As above.
  public init(
    accepting socket: FileDescriptorChannel, _ context: TLSContext
  ) throws(ChannelError) {
    unsafe (descriptor, connection) = try Self.prepare(socket, context)
    self.socket = socket
    self.context = context
    name = socket.name
    timeoutMilliseconds = socket.timeoutMilliseconds
    unsafe SSL_set_accept_state(connection)
    try shakeHands { () throws(ChannelError) in try sayWelcome() }
  }

  deinit { unsafe SSL_free(connection) }

  private static func prepare(
    _ socket: FileDescriptorChannel, _ context: TLSContext
  ) throws(ChannelError) -> (Int32, OpaquePointer) {
    guard socket.isBidirectional, let descriptor = socket.openDescriptor else {
      throw ChannelError(
        .failed, channel: socket.name, operation: "TLS handshake",
        detail: "TLS needs a socket that is open")
    }
    // OpenSSL writes without MSG_NOSIGNAL.
    _ = SystemCalls.pipeSignalIgnored
    SystemCalls.doNotBlock(descriptor)
    guard let connection = unsafe SSL_new(context.context),
      unsafe SSL_set_fd(connection, descriptor) == 1
    else {
      throw ChannelError(
        .failed, channel: socket.name, operation: "TLS handshake",
        detail: OpenSSLText.lastError())
    }
    return unsafe (descriptor, connection)
  }

  /// The certificate must be for `host`.
  private func expect(_ host: String) throws(ChannelError) {
    let parameters = unsafe SSL_get0_param(connection)
    // It says itself whether this is an address.
    if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, host) == 1 { return }
    ERR_clear_error()
    guard unsafe SSL_set1_host(connection, host) == 1 else {
      throw failure("TLS handshake", OpenSSLText.lastError())
    }
  }

  /// The accepting side's first byte. In TLS 1.3 the connecting side is done before anybody has
  /// looked at its certificate; without this a refusal would be a broken pipe somewhere later.
  private static let welcome: UInt8 = 1

  private func sayWelcome() throws(ChannelError) {
    var byte = Self.welcome
    _ = try exchange("TLS handshake") {
      var count = 0
      let result = unsafe SSL_write_ex(connection, &byte, 1, &count)
      return result == 1 ? count : Int(result)
    }
  }

  private func hearWelcome() throws(ChannelError) {
    var byte: UInt8 = 0
    let count = try exchange("TLS handshake") {
      var count = 0
      let result = unsafe SSL_read_ex(connection, &byte, 1, &count)
      return result == 1 ? count : Int(result)
    }
    guard count == 1, byte == Self.welcome else {
      throw failure("TLS handshake", "the other side does not speak as a smudge does")
    }
  }

  private func shakeHands(
    _ welcome: () throws(ChannelError) -> Void
  ) throws(ChannelError) {
    do throws(ChannelError) {
      _ = try exchange("TLS handshake") { unsafe Int(SSL_do_handshake(connection)) }
      try welcome()
    } catch {
      let code = unsafe SSL_get_verify_result(connection)
      socket.shutDown()
      guard code != X509_V_OK else { throw error }
      throw failure(
        "TLS handshake",
        "the other side's certificate was refused: \(OpenSSLText.verification(code))")
    }
  }

  public func write(_ bytes: RawSpan) throws(ChannelError) {
    var done = 0
    while done < bytes.byteCount {
      let rest = bytes.extracting(done..<bytes.byteCount)
      done += try exchange("write") {
        unsafe rest.withUnsafeBytes { buffer in
          var count = 0
          let result = unsafe SSL_write_ex(
            connection, buffer.baseAddress, buffer.count, &count)
          return result == 1 ? count : Int(result)
        }
      }
    }
  }

  public func read(into buffer: inout MutableRawSpan) throws(ChannelError) -> Int {
    guard buffer.byteCount > 0 else { return 0 }
    return try unsafe buffer.withUnsafeMutableBytes { (bytes) throws(ChannelError) -> Int in
      try exchange("read") {
        var count = 0
        let result = unsafe SSL_read_ex(connection, bytes.baseAddress, bytes.count, &count)
        return result == 1 ? count : Int(result)
      }
    }
  }

  public func shutDown() {
    isShut.withLock { isShut in
      guard !isShut else { return }
      isShut = true
      // Tells the other side that this is an end. It does not wait, and whether it got there shows
      // on the other side.
      if unsafe SSL_is_init_finished(connection) == 1 { _ = unsafe SSL_shutdown(connection) }
      ERR_clear_error()
    }
    socket.shutDown()
  }

  private enum Step {
    case done(Int)
    case waits(writing: Bool)
    case failed(ChannelError)
  }

  /// One call, made again until it has moved something.
  /// - Parameter call: answers what it moved, 0 or less where OpenSSL has more to say.
  private func exchange(
    _ operation: String, _ call: () -> Int
  ) throws(ChannelError) -> Int {
    while true {
      switch step(operation, call) {
      case .done(let count): return count
      case .failed(let error): throw error
      case .waits(let writing):
        let ready = SystemCalls.wait(
          for: descriptor, writing: writing, or: -1,
          milliseconds: timeoutMilliseconds.map { Int32(clamping: $0) } ?? -1)
        if ready < 0 {
          throw FileDescriptorChannel.failure(Int32(-ready), name, operation)
        }
        if ready == 0 { throw ChannelError(.timedOut, channel: name, operation: operation) }
      }
    }
  }

  private func step(_ operation: String, _ call: () -> Int) -> Step {
    isShut.withLock { isShut in
      guard !isShut else {
        return .failed(ChannelError(.closed, channel: name, operation: operation))
      }
      ERR_clear_error()
      errno = 0
      let value = call()
      if value > 0 { return .done(value) }
      switch unsafe SSL_get_error(connection, Int32(value)) {
      case SSL_ERROR_WANT_READ: return .waits(writing: false)
      case SSL_ERROR_WANT_WRITE: return .waits(writing: true)
      case SSL_ERROR_ZERO_RETURN: return .done(0)
      case SSL_ERROR_SYSCALL where errno != 0:
        return .failed(FileDescriptorChannel.failure(errno, name, operation))
      case SSL_ERROR_SYSCALL:
        return .failed(ChannelError(.ended, channel: name, operation: operation))
      default: return .failed(failure(operation, OpenSSLText.lastError()))
      }
    }
  }

  private func failure(_ operation: String, _ detail: String) -> ChannelError {
    ChannelError(.failed, channel: name, operation: operation, detail: detail)
  }
}
