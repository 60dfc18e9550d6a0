public import Addressing

/// A reader of the log with a cursor of its own: what it has not taken yet waits for it alone.
public struct ConsumerID: Hashable, Sendable {
  public let rawValue: Int
  init(_ rawValue: Int) { self.rawValue = rawValue }
}

/// Dirty pages taken out of the log to be sent. In flight until `delivered` or `putBack`.
public struct Harvest: Sendable {
  public let consumer: ConsumerID
  public let number: UInt64
  /// Whole pages, in rising order, none touching the next; none crosses a region's end.
  public let runs: [GPARange]
  public let pageCount: UInt64
  /// No dirty page was left for this consumer when the harvest was taken.
  public let isLast: Bool
}

/// What a mark reached.
public struct MarkCount: Hashable, Sendable {
  /// Pages of RAM marked.
  public var dirtyPages: UInt64 = 0
  /// Of these, the ones that were clean for at least one consumer.
  public var newlyDirtyPages: UInt64 = 0
  /// Pages outside every RAM region: a device's BAR, or nothing at all. Marked nowhere.
  public var outsidePages: UInt64 = 0

  public init(dirtyPages: UInt64 = 0, newlyDirtyPages: UInt64 = 0, outsidePages: UInt64 = 0) {
    self.dirtyPages = dirtyPages
    self.newlyDirtyPages = newlyDirtyPages
    self.outsidePages = outsidePages
  }

  public static func += (left: inout MarkCount, right: MarkCount) {
    left.dirtyPages &+= right.dirtyPages
    left.newlyDirtyPages &+= right.newlyDirtyPages
    left.outsidePages &+= right.outsidePages
  }
}
