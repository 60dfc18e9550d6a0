/// An open descriptor with holders: closed when the last of them lets go, on whatever path. So none
/// leaks where an error ends a message half way, and none is closed twice.
public final class OwnedDescriptor: Sendable, CustomStringConvertible {
  public let rawValue: Int32

  /// Takes it over.
  /// - Precondition: it is open.
  public init(owning rawValue: Int32) {
    precondition(rawValue >= 0, "a descriptor is not negative")
    self.rawValue = rawValue
  }

  deinit { SocketSystem.close(rawValue) }

  public var description: String { "descriptor \(rawValue)" }
}
