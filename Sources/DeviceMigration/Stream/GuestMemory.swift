public import Addressing

/// The bytes of guest RAM, as a migration reads or writes them. On the source the guest goes on
/// writing meanwhile: what is read may be torn, and then the page is dirty anyway.
public protocol GuestMemory: AnyObject, Sendable {
  /// Calls `body` with the bytes of `range`.
  /// - Returns: nil, without calling `body`, when `range` does not lie inside one RAM region.
  func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R?

  /// Calls `body` with the bytes of `range` to be written.
  /// - Returns: nil, without calling `body`, when `range` does not lie inside one RAM region.
  func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R?
}
