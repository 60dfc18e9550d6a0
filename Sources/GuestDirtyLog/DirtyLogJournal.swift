public import Addressing

/// Who writes down, in one order, what happens to a log.
///
/// Marks of different threads may come in any order; what takes pages away, or brings a reader or a
/// region, may not change places with a mark of the same pages. So a log writes such an entry while
/// it holds the lock under which it happens. See `Docs/records/0013`.
public protocol DirtyLogJournal: AnyObject, Sendable {
  /// Called with a lock of the log held: it is short, and does not call the log.
  func append(_ entry: DirtyLogEntry) -> JournalPlace

  /// The place of what is appended next.
  var next: JournalPlace { get }
}

/// The number of an entry, rising in the order in which they were appended.
public struct JournalPlace: Comparable, Hashable, Sendable {
  public let sequence: UInt64

  public init(_ sequence: UInt64) { self.sequence = sequence }

  /// Of marks that nobody writes down, or that were written down before.
  public static let none = JournalPlace(.max)
  /// Of marks that belong to no entry: each hold of a lock writes down what it marked.
  static let ofItsOwn = JournalPlace(0)

  public static func < (left: JournalPlace, right: JournalPlace) -> Bool {
    left.sequence < right.sequence
  }
}

/// What happened to a log. Consumers and harvests by their numbers, regions by their first address.
public enum DirtyLogEntry: Hashable, Sendable {
  case regionAdded(RAMRegion)
  case regionRemoved(at: GPA)
  /// A consumer came. Fills: everything is dirty for it.
  case consumerAdded(consumer: Int, name: String, fills: Bool)
  /// From here on a consumer to come sees the marks of one region.
  case shareAdded(consumer: Int, region: GPA)
  /// What was dirty in these blocks of bits is so for the others alone.
  case othersKept(except: Int, region: GPA, blocks: Range<Int>)
  case consumerRemoved(consumer: Int)
  /// Pages are dirty for every consumer. Of a mark that belongs to an operation of a tracker only
  /// what that operation's own place in the order would get wrong.
  case marked(by: DirtySource, [GPARange])
  /// Part of what a harvest took.
  case taken(consumer: Int, harvest: UInt64, [GPARange])
  /// All that was taken, so many pages, is in flight.
  case departed(consumer: Int, harvest: UInt64, pageCount: UInt64)
  case delivered(consumer: Int, harvest: UInt64)
  case putBack(consumer: Int, harvest: UInt64)
  /// The sticky mark that makes all dirty, and why.
  case allMarkedDirty(because: String)
  case allDirtyReset
}
