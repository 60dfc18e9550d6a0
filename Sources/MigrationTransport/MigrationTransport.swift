public import DeviceMigration
import Glibc

/// Opens channels by address: the migration stream's way out of the process.
///
/// `connect` is the source's side, `listen` and `accept` the destination's. A file is written by
/// the one and read by the other; a file descriptor is the same on both.
public enum MigrationTransport {
  /// The source's side.
  /// - Parameter timeoutMilliseconds: how long the connect may take, and after it one call may wait
  ///   without a byte moving.
  public static func connect(
    to address: MigrationAddress, timeoutMilliseconds: Int? = nil
  ) throws(ChannelError) -> FileDescriptorChannel {
    let value =
      switch address {
      case .unix(let path): SocketCalls.connectUnix(path, timeoutMilliseconds: timeoutMilliseconds)
      case .tcp(let host, let port):
        SocketCalls.connectTCP(host, port, timeoutMilliseconds: timeoutMilliseconds)
      case .file(let path): SystemCalls.openFile(path, writing: true)
      case .descriptor(let number): Int(number)
      }
    return try channel(value, address, "connect", timeoutMilliseconds)
  }

  /// The destination's side. For a file or a descriptor there is nothing to wait for.
  public static func listen(on address: MigrationAddress) throws(ChannelError) -> MigrationListener
  {
    let value: Int
    switch address {
    case .unix(let path):
      // A socket that a process left behind refuses the next one.
      SystemCalls.removeStaleSocket(path)
      value = SocketCalls.listenUnix(path)
    case .tcp(let host, let port): value = SocketCalls.listenTCP(host, port)
    case .file, .descriptor: return MigrationListener(address: address, descriptor: nil)
    }
    guard value >= 0 else { throw failure(value, address, "listen") }
    return MigrationListener(address: address, descriptor: Int32(value))
  }

  private static func failure(
    _ value: Int, _ address: MigrationAddress, _ operation: String
  ) -> ChannelError {
    if let text = SocketCalls.resolutionText(value) {
      return ChannelError(
        .failed, channel: "\(address)", operation: operation,
        detail: "the name of the host does not resolve: \(text)")
    }
    if value == -Int(ETIMEDOUT) {
      return ChannelError(
        .timedOut, channel: "\(address)", operation: operation, errorNumber: ETIMEDOUT)
    }
    return FileDescriptorChannel.failure(Int32(-value), "\(address)", operation)
  }

  static func channel(
    _ value: Int, _ address: MigrationAddress, _ operation: String, _ timeout: Int?
  ) throws(ChannelError) -> FileDescriptorChannel {
    guard value >= 0 else { throw failure(value, address, operation) }
    return try FileDescriptorChannel(
      owning: Int32(value), name: "\(address)", timeoutMilliseconds: timeout)
  }
}

/// Waits for a source. Its socket goes with it.
public final class MigrationListener: Sendable {
  /// With the port that was taken, where any was asked for.
  public let address: MigrationAddress
  private let descriptor: Int32?

  init(address: MigrationAddress, descriptor: Int32?) {
    self.descriptor = descriptor
    if case .tcp(let host, 0) = address, let descriptor,
      let port = SocketCalls.port(of: descriptor)
    {
      self.address = .tcp(host: host, port: port)
    } else {
      self.address = address
    }
  }

  deinit {
    guard let descriptor else { return }
    close(descriptor)
    if case .unix(let path) = address { SystemCalls.remove(path) }
  }

  /// The next source.
  /// - Parameters:
  ///   - waitMilliseconds: how long to wait for it; nil for ever.
  ///   - timeoutMilliseconds: of the channel.
  public func accept(
    waitMilliseconds: Int? = nil, timeoutMilliseconds: Int? = nil
  ) throws(ChannelError) -> FileDescriptorChannel {
    let value: Int
    switch address {
    case .file(let path): value = SystemCalls.openFile(path, writing: false)
    case .descriptor(let number): value = Int(number)
    case .unix, .tcp:
      guard let descriptor else { preconditionFailure("a socket address has a socket") }
      let ready = SystemCalls.wait(
        for: descriptor, writing: false, or: -1,
        milliseconds: waitMilliseconds.map { Int32(clamping: $0) } ?? -1)
      if ready == 0 { throw ChannelError(.timedOut, channel: "\(address)", operation: "accept") }
      value = ready < 0 ? ready : SocketCalls.accept(descriptor)
    }
    return try MigrationTransport.channel(value, address, "accept", timeoutMilliseconds)
  }
}
