public import Addressing
public import GuestDirtyLog
public import Snapshot

/// One thing that happened to a tracker or its dirty log: what their state is a function of.
///
/// Terms:
/// - **Event**: one operation on a container (a map, an unmap, one step of a course), one change of
///   what the tracker knows, one entry of the log's journal, or what the tracker was told.
/// - **Told**: an event that changes nothing by itself. What came of it are events of their own.
/// - **Answer**: what a backend gave to a call. It belongs to the operation of the same container
///   that is the last one before it, whatever lies between them.
/// - **Sequence**: the number of an event, from 0, without a gap.
///
/// Invariants:
/// 1. Replaying the events from sequence 0 on gives the state they were taken from, bit for bit,
///    but for who marked a page first; see `Docs/records/0013`.
/// 2. An event holds values only: no clock, no address of this process that replay depends on.
/// 3. Events of one container are in the order in which they happened. Between containers only
///    the log's entries are ordered, as far as it matters for a page.
///
/// Containers are numbered as the tracker numbers them, consumers and harvests as the log does.
public enum TrackerEvent: Hashable, Sendable {
  /// A tracker was made. The first event of a trace that can be replayed.
  case trackerMade(TraceConfiguration)

  // MARK: containers
  case containerAdded(container: UInt16, TraceContainer)
  case containerRemoved(container: UInt16)
  /// The container's logs, and what it can do, are these from now on.
  case attachmentChanged(container: UInt16, TraceContainer)

  // MARK: memory listener
  case transactionBegan
  case transactionCommitted
  /// Told; a part of the transaction where one is open.
  case regionAdded(RAMRegion)
  case regionRemoved(RAMRegion)
  case regionUnchanged(RAMRegion)
  case globalLogStarted
  case globalLogStopped
  case logStarted(RAMRegion)
  case logStopped(RAMRegion)
  /// Nil: everything.
  case logSynced(GPARange?)
  case logCleared(GPARange)
  case ramDiscarded(GPARange)
  case ramPopulated(GPARange)
  /// The tracker knows this RAM from now on.
  case ramAdded(RAMRegion)
  case ramRemoved(RAMRegion)
  /// RAM went while the container may have mappings to it.
  case ramGone(container: UInt16, GPARange)

  // MARK: mappings, the guest's and the tracker's own
  /// Ahead: the VMM that owns the container told before it mapped.
  case mapped(
    container: UInt16, iova: IOVARange, gpaFirst: GPA, permissions: Permissions,
    isAhead: Bool = false)
  case unmapped(container: UInt16, iova: IOVARange)
  /// The VMM has unmapped by itself. Nil: it has no bitmap.
  case unmappedByVMM(container: UInt16, iova: IOVARange, answer: UnmapAnswer?)
  /// True: IOVA is GPA from now on; false: behind the virtual IOMMU.
  case addressSpaceSwitched(container: UInt16, isIdentity: Bool)

  // MARK: writes
  /// Told. Since: the generation its translation was taken at, where the device said so.
  case deviceWrote(container: UInt16, iova: IOVARange, since: Generation?)

  // MARK: rounds
  /// Told: a sync of all containers begins.
  case synced(isFinal: Bool)

  // MARK: courses of one container, done in steps
  /// Pays owed: its devices may have written already what a reader has seen as clean.
  case startBegan(container: UInt16, paysOwed: Bool)
  /// Of the IOVA range. Asks: false where the query is left out on purpose.
  case syncBegan(container: UInt16, range: IOVARange, isFinal: Bool, asks: Bool)
  /// What ends with it, see ``TraceStop``.
  case stopBegan(container: UInt16, TraceStop)
  /// One step of the course under way, and how much it could do at most.
  case stepped(
    container: UInt16, windowByteCountMax: UInt64, mappingCountMax: UInt64, pageCountMax: UInt64)
  /// The course was taken away by a stop or a removal.
  case courseEnded(container: UInt16)
  case answered(BackendAnswer)

  // MARK: the dirty log
  case log(DirtyLogEntry)
}

/// What a stop of a container's logs is for.
public struct TraceStop: Hashable, Sendable {
  /// The dirty log has readers as the stop begins, for whom what is mapped writable is dirty.
  public var marksForReaders: Bool
  /// The container goes; nothing is mapped any more.
  public var isRemoval: Bool

  public init(marksForReaders: Bool, isRemoval: Bool = false) {
    self.marksForReaders = marksForReaders
    self.isRemoval = isRemoval
  }
}
