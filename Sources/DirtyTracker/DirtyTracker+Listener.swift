public import Addressing
import EventTrace
import Snapshot
public import GuestDirtyLog
import Locking

/// The memory listener: what a VMM tells of its RAM, in the words of QEMU's `MemoryListener`.
extension DirtyTracker {
  /// Opens a transaction: regions change when it is committed.
  /// - Throws: ``TrackerError/transactionOpen`` when one is open; nothing changes then.
  public func begin() throws(TrackerError) {
    try control.withLock { (control) throws(TrackerError) in
      guard control.transaction == nil else { throw .transactionOpen }
      record(.transactionBegan)
      control.transaction = RAMTransaction()
    }
  }

  /// Removes, then adds, what the transaction was told.
  /// - Throws: the first failure, once everything else was done; ``TrackerError/noTransaction``
  ///   when none is open.
  public func commit() throws(TrackerError) {
    try control.withLock { (control) throws(TrackerError) in
      guard let transaction = control.transaction else { throw .noTransaction }
      record(.transactionCommitted)
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

  /// RAM has come. Outside a transaction at once.
  /// - Throws: where the log refuses it, nothing is added. Where a container does, the RAM is in
  ///   the log, and ``ramPopulated(_:)`` tries to map it again.
  public func regionAdded(_ region: RAMRegion) throws(TrackerError) {
    try control.withLock { (control) throws(TrackerError) in
      record(.regionAdded(region))
      if control.transaction == nil {
        try add(region)
      } else {
        control.transaction?.added.append(region)
      }
    }
  }

  /// RAM goes. What identity containers have mapped of it is unmapped, with its dirt.
  /// - Throws: when a container refuses to unmap it: the region stays, and what other containers
  ///   had unmapped already is mapped again. A part of a region is none.
  public func regionRemoved(_ region: RAMRegion) throws(TrackerError) {
    try control.withLock { (control) throws(TrackerError) in
      record(.regionRemoved(region))
      if control.transaction == nil {
        try remove(region)
      } else {
        control.transaction?.removed.append(region)
      }
    }
  }

  /// A region the transaction leaves as it is.
  public func regionUnchanged(_ region: RAMRegion) { record(.regionUnchanged(region)) }

  public func logGlobalStart() -> SyncReport { startTracking() }
  public func logGlobalStop() -> SyncReport { stopTracking() }

  /// One region's log is switched on by itself, as for a frame buffer. Devices are tracked from the
  /// global start on, or not at all: nothing changes.
  public func logStart(_ region: RAMRegion) { record(.logStarted(region)) }

  public func logStop(_ region: RAMRegion) { record(.logStopped(region)) }

  /// The caller is about to read the dirty pages of `range`, nil for all. Pages that are dirty in
  /// every round are held back until a sync says that it is final.
  /// - Parameter isFinal: vCPUs and devices have stopped, and this is the last sync.
  public func logSync(_ range: GPARange?, isFinal: Bool = false) -> SyncReport {
    record(.logSynced(range))
    return sync(range, isFinal: isFinal)
  }

  /// The caller is about to clear what it has read. A log is cleared when it is asked, and each
  /// reader of the dirty log has its own cursor: there is nothing left to clear.
  public func logClear(_ range: GPARange) { record(.logCleared(range)) }

  // MARK: regions, with control held

  private func add(_ region: RAMRegion) throws(TrackerError) {
    do throws(GuestDirtyLogError) {
      try log.addRegion(region)
    } catch {
      throw .log(error)
    }
    record(.ramAdded(region))
    settings.memory.add(region)
    do throws(TrackerError) {
      try forEachIdentity { tracked throws(TrackerError) in
        try mapRAM(tracked, in: region.gpa)
      }
    } catch {
      // vCPUs and other containers write there: the log keeps it.
      throw .regionNotMapped(region: "\(region)", reason: "\(error)")
    }
  }

  private func remove(_ region: RAMRegion) throws(TrackerError) {
    let overlapping = settings.memory.regions.filter { $0.gpa.overlaps(region.gpa) }
    if let whole = overlapping.first, overlapping.count > 1 || whole.gpa != region.gpa {
      throw .partOfRegion(region.gpa, of: "\(whole)")
    }
    do throws(TrackerError) {
      try unmapIdentity(region.gpa)
    } catch {
      // What was unmapped before the refusal comes back: the region stays for every container.
      do throws(TrackerError) {
        try forEachIdentity { tracked throws(TrackerError) in
          try mapRAM(tracked, in: region.gpa)
        }
      } catch let second {
        notes.withLock { $0.append("RAM \(region) stays, and is not mapped everywhere: \(second)") }
      }
      throw error
    }
    do throws(GuestDirtyLogError) {
      _ = try log.removeRegion(at: region.gpa.first)
    } catch {
      throw .log(error)
    }
    record(.ramRemoved(region))
    settings.memory.remove(region)
    for tracked in liveContainers {
      tracked.operation.withLock { (state: inout ContainerState) in
        state.begin(.ramGone(container: tracked.id.rawValue, region.gpa))
        state.noteGone(region.gpa)
      }
    }
  }
}
