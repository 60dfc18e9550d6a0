/// The place of an event in the life of one mapping table: each successful map and unmap takes the
/// next. 0 is before everything.
public struct Generation: Hashable, Comparable, BitwiseCopyable, Sendable, CustomStringConvertible {
  public let rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  @inlinable public static func < (left: Generation, right: Generation) -> Bool {
    left.rawValue < right.rawValue
  }
  public var description: String { "gen \(rawValue)" }
}
