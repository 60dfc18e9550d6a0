public import Addressing
import EventTrace
public import GuestDirtyLog
import Locking

/// The memory listener: what a VMM tells of its RAM, in the words of QEMU's `MemoryListener`.
extension DirtyTracker {
  /// Opens a transaction: regions change when it is committed.
  /// - Precondition: none is open.
  public func begin() {
    taking(.transactionBegan) {
      control.withLock { control in
        precondition(control.transaction == nil, "one transaction at a time")
        control.transaction = RAMTransaction()
      }
    }
  }

  /// Removes, then adds, what the transaction was told.
  /// - Throws: the first failure, once everything else was done.
  /// - Precondition: a transaction is open.
  public func commit() throws(TrackerError) {
    try taking(.transactionCommitted) { () throws(TrackerError) -> Void in
      try control.withLock { (control) throws(TrackerError) in
        guard let transaction = control.transaction else {
          preconditionFailure("a commit closes what a begin opened")
        }
        control.transaction = nil
        var first: TrackerError?
        for region in transaction.removed.reversed() {
          do throws(TrackerError) { try remove(region) } catch { first = first ?? error }
        }
        for region in transaction.added {
          do throws(TrackerError) { try add(region) } catch { first = first ?? error }
        }
        if let first { throw first }
      }
    }
  }

  /// RAM has come. Outside a transaction at once.
  /// - Throws: nothing is added then.
  public func regionAdded(_ region: RAMRegion) throws(TrackerError) {
    try taking(.regionAdded(TraceRegion(region))) { () throws(TrackerError) -> Void in
      try control.withLock { (control) throws(TrackerError) in
        if control.transaction == nil {
          try add(region)
        } else {
          control.transaction?.added.append(region)
        }
      }
    }
  }

  /// RAM goes. What identity containers have mapped of it is unmapped, with its dirt.
  /// - Throws: when a container refuses to unmap it: the region stays.
  public func regionRemoved(_ region: RAMRegion) throws(TrackerError) {
    try taking(.regionRemoved(TraceRegion(region))) { () throws(TrackerError) -> Void in
      try control.withLock { (control) throws(TrackerError) in
        if control.transaction == nil {
          try remove(region)
        } else {
          control.transaction?.removed.append(region)
        }
      }
    }
  }

  /// A region the transaction leaves as it is.
  public func regionUnchanged(_ region: RAMRegion) {
    taking(.regionUnchanged(TraceRegion(region))) {}
  }

  public func logGlobalStart() -> SyncReport { startTracking() }
  public func logGlobalStop() -> SyncReport { stopTracking() }

  /// One region's log is switched on by itself, as for a frame buffer. Devices are tracked from the
  /// global start on, or not at all: nothing changes.
  public func logStart(_ region: RAMRegion) {
    taking(.logStarted(TraceRegion(region))) {}
  }

  public func logStop(_ region: RAMRegion) {
    taking(.logStopped(TraceRegion(region))) {}
  }

  /// The caller is about to read the dirty pages of `range`, nil for all. Pages that are dirty in
  /// every round are held back here: the last round is `sync(isFinal: true)`.
  public func logSync(_ range: GPARange?) -> SyncReport {
    taking(.logSynced(range)) { sync(range, isFinal: false) }
  }

  /// The caller is about to clear what it has read. A log is cleared when it is asked, and each
  /// reader of the dirty log has its own cursor: there is nothing left to clear.
  public func logClear(_ range: GPARange) {
    taking(.logCleared(range)) {}
  }

  // MARK: regions, with control held

  private func add(_ region: RAMRegion) throws(TrackerError) {
    do throws(GuestDirtyLogError) {
      try log.addRegion(region)
    } catch {
      throw .log(error)
    }
    settings.memory.add(region)
    do throws(TrackerError) {
      try forEachIdentity { (tracked, op: inout ContainerOperation) throws(TrackerError) in
        try tracked.mapRAM(&op, in: region.gpa)
      }
    } catch {
      try? unmapIdentity(region.gpa)
      settings.memory.remove(region)
      _ = try? log.removeRegion(at: region.gpa.first)
      throw error
    }
  }

  private func remove(_ region: RAMRegion) throws(TrackerError) {
    try unmapIdentity(region.gpa)
    do throws(GuestDirtyLogError) {
      _ = try log.removeRegion(at: region.gpa.first)
    } catch {
      throw .log(error)
    }
    settings.memory.remove(region)
  }

  func unmapIdentity(_ range: GPARange) throws(TrackerError) {
    let iova = AddressRange(first: IOVA(range.first.rawValue), last: IOVA(range.last.rawValue))
    try forEachIdentity { (tracked, op: inout ContainerOperation) throws(TrackerError) in
      try tracked.unmap(&op, iova)
    }
  }

  /// Every identity container, also after one of them failed; then the first failure.
  func forEachIdentity(
    _ body: (TrackedContainer, inout ContainerOperation) throws(TrackerError) -> Void
  ) throws(TrackerError) {
    var first: TrackerError?
    for tracked in liveContainers {
      do throws(TrackerError) {
        try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
          if op.addressSpace == .identity { try body(tracked, &op) }
        }
      } catch {
        first = first ?? error
      }
    }
    if let first { throw first }
  }
}
