import Addressing

/// Where a server is met.
public enum VFIOUserSocket {
  /// Two ends of a connection in one process.
  public static func pair() throws(VFIOUserError) -> (OwnedDescriptor, OwnedDescriptor) {
    guard let pair = SocketSystem.pair() else {
      throw VFIOUserError(
        .system, operation: "socketpair", detail: "no descriptor is left")
    }
    return pair
  }

  /// Connects to the socket at `path`.
  public static func connect(
    _ path: String, name: String
  ) throws(VFIOUserError) -> OwnedDescriptor {
    try opened(SocketSystem.connect(path), name, "connect to \(path)")
  }

  static func opened(
    _ result: Int32, _ name: String, _ operation: String
  ) throws(VFIOUserError) -> OwnedDescriptor {
    guard result >= 0 else {
      throw VFIOUserError(.system, object: name, operation: operation, errno: -result)
    }
    return OwnedDescriptor(owning: result)
  }
}

/// The socket a server waits at. Its file is removed when the listener goes.
public final class VFIOUserListener: Sendable {
  public let path: String
  private let socket: OwnedDescriptor

  /// - Throws: `system`; EADDRINUSE (98) where something is at `path`, which is left alone.
  public init(path: String) throws(VFIOUserError) {
    self.path = path
    socket = try VFIOUserSocket.opened(
      SocketSystem.listen(path), "vfio-user", "listen at \(path)")
  }

  deinit { SocketSystem.remove(path) }

  /// Waits for one client. One connection is one client; more wait until the next call.
  public func accept() throws(VFIOUserError) -> OwnedDescriptor {
    try VFIOUserSocket.opened(
      SocketSystem.accept(socket.rawValue), "vfio-user", "accept at \(path)")
  }

  /// Ends the wait of ``accept()``, from any thread.
  public func shutDown() { SocketSystem.shutDown(socket.rawValue) }
}
