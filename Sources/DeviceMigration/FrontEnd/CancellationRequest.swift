import Locking

/// Asks a migration to stop, from any thread. It is seen between two sections of the stream; to end
/// a write that waits, shut the channel down as well.
public final class CancellationRequest: Sendable {
  private let reason = Mutex<String?>(nil)

  public init() {}

  /// The first reason stays.
  public func cancel(because text: String) { reason.withLock { $0 = $0 ?? text } }

  /// Nil when nobody asked.
  public var requested: String? { reason.withLock { $0 } }

  func reset() { reason.withLock { $0 = nil } }
}
