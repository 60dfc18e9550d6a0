public import Addressing
public import GuestDirtyLog

/// The state of a tracker and its dirty log as a value, copied in bounded pieces while both go on.
///
/// Pieces are of different moments. Each says from which event on it knows nothing (its *place*):
/// a replay of the events from `firstSequence` on takes, for each piece, only those that are not in
/// it already, and comes to the state as if it had begun with the first event. See
/// `Docs/records/0014`.
public struct TrackerSnapshot: Hashable, Sendable {
  /// The first event that a replay needs.
  public var firstSequence: UInt64
  public var configuration: TraceConfiguration
  /// Of what follows, up to `containers`.
  public var place: UInt64
  public var isTracking = false
  /// Nil: no transaction of the memory listener is open.
  public var transaction: Transaction?
  public var ram: [RAMRegion] = []
  public var discarded: [GPARange] = []
  public var containers: [SnapshotContainer] = []
  public var log = DirtyLogCopy()

  /// What a transaction has been told so far.
  public struct Transaction: Hashable, Sendable {
    public var added: [RAMRegion]
    public var removed: [RAMRegion]

    public init(added: [RAMRegion], removed: [RAMRegion]) {
      self.added = added
      self.removed = removed
    }
  }

  public init(firstSequence: UInt64, configuration: TraceConfiguration, place: UInt64) {
    self.firstSequence = firstSequence
    self.configuration = configuration
    self.place = place
  }
}
