/// Consecutive pages, by index in their bitmap, both ends inside.
public struct PageRun: Hashable, Sendable, CustomStringConvertible {
  public let first: UInt64
  public let last: UInt64

  /// - Precondition: `first <= last`.
  @inlinable public init(first: UInt64, last: UInt64) {
    precondition(first <= last, "a run needs first <= last")
    self.first = first
    self.last = last
  }

  /// Pages in the run; the limit of a bitmap keeps it far from 2^64.
  @inlinable public var pageCount: UInt64 { last &- first &+ 1 }

  public var description: String { "pages \(first)-\(last)" }
}
