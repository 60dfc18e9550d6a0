/// What a device may do through a mapping. A mapping grants at least one of the two.
public struct Permissions: OptionSet, Hashable, BitwiseCopyable, Sendable, CustomStringConvertible {
  public let rawValue: UInt8
  /// Bits that are no permission are left out: a table has room for two.
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue & 3 }

  public static let read = Permissions(rawValue: 1)
  public static let write = Permissions(rawValue: 2)
  public static let readWrite: Permissions = [.read, .write]

  /// `r-`, `-w`, `rw`.
  public var description: String {
    (contains(.read) ? "r" : "-") + (contains(.write) ? "w" : "-")
  }
}
