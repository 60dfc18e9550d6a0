import Glibc

/// An open file descriptor, closed with its last reference.
public final class OwnedDescriptor: Sendable {
  /// Valid as long as this object lives.
  public let number: Int32

  /// Takes it over.
  public init(owning number: Int32) { self.number = number }

  deinit { close(number) }
}
