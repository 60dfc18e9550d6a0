import Addressing

/// Tells the service manager how the service does, in the protocol of `sd_notify(3)`: a datagram of
/// lines `NAME=value` to the socket that NOTIFY_SOCKET names.
public struct ServiceNotification: Sendable {
  /// Nil where nobody wants to know, and then nothing is sent.
  public let address: String?

  /// - Parameter address: a path, or `@` and a name in the abstract space.
  public init(address: String?) { self.address = address }

  /// The one of this process. The variable is removed: it is meant for no program that is started
  /// from here.
  /// - Precondition: no other thread runs yet.
  public static func take() -> Self {
    let address = ServiceEnvironment.value("NOTIFY_SOCKET")
    ServiceEnvironment.remove("NOTIFY_SOCKET")
    return Self(address: address)
  }

  /// Everything listens. The manager starts what waits for this service.
  public func ready(status: String) -> NotificationOutcome {
    send(["READY=1", Self.line(status)])
  }

  public func stopping() -> NotificationOutcome { send(["STOPPING=1"]) }

  /// The line that `systemctl status` shows.
  public func status(_ text: String) -> NotificationOutcome { send([Self.line(text)]) }

  private static func line(_ text: String) -> String {
    "STATUS="
      + LogText.cut(LogText.escaped(text), characterCount: 1_000, byteCount: 4_000)
  }

  private func send(_ lines: [String]) -> NotificationOutcome {
    guard let address else { return .notWanted }
    let errno = SystemdCalls.notify(lines.joined(separator: "\n"), at: address)
    return errno == 0 ? .sent : .failed(errno: errno)
  }
}

/// What became of a notification.
public enum NotificationOutcome: Hashable, Sendable {
  case notWanted
  case sent
  /// The manager may take the service for one that did not start.
  case failed(errno: Int32)

  /// Nil where there is nothing to say about it.
  public var problem: String? {
    guard case .failed(let errno) = self else { return nil }
    return "the service manager was not told: sending to NOTIFY_SOCKET failed with"
      + " \(ErrorNumber.name(errno))"
  }
}
