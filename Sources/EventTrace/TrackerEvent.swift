public import Addressing

/// One thing the tracker was told, or was answered: what its state is a function of.
///
/// Terms:
/// - **Event**: a call of the tracker's surface, or the answer a backend gave it.
/// - **Answer**: belongs to the event before it that is no answer. A backend call without an answer
///   in the trace succeeded, removed what was asked for and found nothing dirty.
/// - **Sequence**: the number of an event, from 0, without a gap.
///
/// Invariants:
/// 1. Replaying the events from sequence 0 on gives the state they were taken from, bit for bit.
/// 2. An event holds values only: no clock, no address of this process that replay depends on.
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
  case regionAdded(TraceRegion)
  case regionRemoved(TraceRegion)
  case regionUnchanged(TraceRegion)
  case globalLogStarted
  case globalLogStopped
  case logStarted(TraceRegion)
  case logStopped(TraceRegion)
  /// Nil: everything.
  case logSynced(GPARange?)
  case logCleared(GPARange)
  case ramDiscarded(GPARange)
  case ramPopulated(GPARange)

  // MARK: virtual IOMMU
  case mapped(container: UInt16, iova: IOVARange, gpaFirst: GPA, permissions: Permissions)
  case unmapped(container: UInt16, iova: IOVARange)
  /// The VMM has unmapped by itself. Nil: it has no bitmap.
  case unmappedByVMM(container: UInt16, iova: IOVARange, answer: UnmapAnswer?)
  /// The live translations, told again.
  case translationsReplayed(container: UInt16, [Mapping])
  /// True: IOVA is GPA from now on; false: behind the virtual IOMMU.
  case addressSpaceSwitched(container: UInt16, isIdentity: Bool)

  // MARK: writes
  /// Since: the generation its translation was taken at, where the device said so.
  case deviceWrote(container: UInt16, iova: IOVARange, since: Generation?)
  case vcpuWrote(GPARange)
  /// What the source of vCPU dirt found in one collection, and whether it failed on the way.
  case vcpuCollected([GPARange], failure: TraceFailure?)

  // MARK: rounds
  case synced(isFinal: Bool)
  case answered(BackendAnswer)

  // MARK: the log's readers
  case consumerAdded(consumer: UInt64, name: String, startsDirty: Bool)
  case consumerRemoved(consumer: UInt64)
  case harvested(consumer: UInt64, number: UInt64, pageCountMax: UInt64, runCountMax: UInt64)
  case delivered(consumer: UInt64, number: UInt64)
  case putBack(consumer: UInt64, number: UInt64)
  case putBackAll(consumer: UInt64)
  /// The sticky mark that makes all dirty, and why.
  case allMarkedDirty(reason: String)
  case allDirtyReset
  /// Every page counts as written, this once.
  case everythingMarked
}
