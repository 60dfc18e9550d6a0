import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking

/// The dirty logs of the container: started and stopped, each call in a step of its own.
extension ContainerState {
  /// Starts a log, or begins to collect what it is started with.
  mutating func beginLogStart(_ index: Int) {
    logs[index].mode = .stopped
    logs[index].needsRestart = false
    // There is nothing to ask it for.
    guard logs[index].canLog else { return logs[index].degrade() }
    guard logs[index].capabilities.mayCrossHoles || !hasPartialUnmap else {
      // Its answers end at holes the table does not know of.
      return logs[index].degrade()
    }
    if logs[index].mayBeRunning {
      // A start might do nothing, and the log stay with its old ranges.
      guard stopAgain(index) else { return logs[index].degrade() }
    }
    if logs[index].hasFixedRanges {
      collection = RangeCollection(log: index)
    } else {
      startLog(index)
    }
  }

  /// One piece of the walk for the ranges of a log; the start, once all were walked. What is mapped
  /// behind the walk is outside of the ranges, and counts as written until a restart.
  mutating func startCollected(_ bounds: StepBounds) {
    guard var collection else { return }
    self.collection = nil
    let index = collection.log
    guard logs.indices.contains(index) else { return }
    guard let from = collection.from else {
      let tracked = logs[index]
      let ranges = DeviceLogRanges(
        collection.runs, pageSize: tracked.pageSize, granule: tracked.capabilities.granule,
        rangeCountMax: max(1, tracked.capabilities.rangeCountMax ?? 1)
      ).ranges
      logs[index].ranges = ranges.filter { range in
        !tracked.refused.contains { $0.overlaps(range) }
      }
      return startLog(index)
    }
    var batch: [Mapping] = []
    swap(&batch, &mappings)
    defer { swap(&batch, &mappings) }
    batch.removeAll(keepingCapacity: true)
    let countMax = max(1, min(bounds.mappingCountMax, 64 << 10))
    let read = context.book.withLock { (book: inout ContainerBook) in
      book.table.copyRuns(
        from: from, through: IOVARange.wholeSpace.last, into: &batch, countMax: countMax)
    }
    for run in batch where run.isWritable { collection.add(run.iova) }
    let end = batch.last?.iova.last
    collection.from = read == countMax ? end?.advanced(byBytes: 1) : nil
    self.collection = collection
  }

  private mutating func startLog(_ index: Int) {
    let tracked = logs[index]
    // A log of nothing cannot be started, and what is not logged is known to be so.
    if tracked.hasFixedRanges, tracked.ranges.isEmpty {
      logs[index].mode = .logging
      return publish()
    }
    counts.mappingCalls &+= 1
    do throws(ContainerError) {
      try tracked.log.start(logging: tracked.ranges, pageSize: tracked.pageSize)
      answeredClean()
      logs[index].mode = .logging
    } catch {
      answered(.startLog, log: index, error: error)
      logs[index].degrade()
      // It may have started all the same.
      logs[index].mayBeRunning = true
      notes.append("\(error); everything \(name) maps writable counts as written instead")
    }
    publish()
  }

  /// Unread dirt is given up. A failure is remembered, and the log is stopped again later.
  mutating func stopLog(_ index: Int) {
    let tracked = logs[index]
    let isIdle = tracked.hasFixedRanges && tracked.ranges.isEmpty && tracked.refused.isEmpty
    logs[index].mode = .stopped
    logs[index].ranges = []
    guard tracked.mayBeRunning || (tracked.mode == .logging && !isIdle) else { return }
    _ = stopAgain(index)
  }

  /// - Returns: whether the log is known to be stopped.
  private mutating func stopAgain(_ index: Int) -> Bool {
    counts.mappingCalls &+= 1
    do throws(ContainerError) {
      try logs[index].log.stop()
      answeredClean()
      logs[index].mayBeRunning = false
      return true
    } catch {
      answered(.stopLog, log: index, error: error)
      logs[index].mayBeRunning = true
      notes.append("\(error); its dirty log may be running still, and is stopped again later")
      return false
    }
  }

  /// The container's devices, and so its logs, have changed.
  mutating func attachmentChanged() {
    capabilities = context.backend.capabilities
    guard isTracking else { return publish() }
    // A new device may have written before its log ran; a log that went took its dirt along.
    owed.add(.wholeSpace)
    let old = logs
    logs = context.backend.dirtyLogs.map { log in
      let now = TrackedLog(log, preferred: settings.policy.pageSize, succeeding: old)
      // What a container's own log can tell depends on its devices too.
      guard let same = old.first(where: { $0.log === log }), same.capabilities == now.capabilities
      else { return now }
      return same
    }
    for index in logs.indices where logs[index].mode == .waiting {
      if old.contains(where: { $0.log === logs[index].log && $0.mode == .logging }) {
        logs[index].mayBeRunning = true
      }
    }
    for gone in old where gone.mode == .logging || gone.mayBeRunning {
      if !logs.contains(where: { $0.log === gone.log }) { stopGone(gone) }
    }
    course = .start(StartCourse(paysOwed: true))
    publish()
  }

  /// Stops the log of a device that has left. What it answers changes nothing: a log that is not
  /// asked any more loses nothing, and its device went with it.
  private mutating func stopGone(_ tracked: TrackedLog) {
    counts.mappingCalls &+= 1
    do throws(ContainerError) {
      try tracked.log.stop()
    } catch {
      notes.append("\(error); its device has left container \(name)")
    }
  }
}

extension RangeCollection {
  /// Adds what lies after all before it; adjacent runs become one.
  mutating func add(_ range: IOVARange) {
    if let last = runs.last, last.isFollowed(by: range) {
      runs[runs.count - 1] = AddressRange(first: last.first, last: range.last)
    } else {
      runs.append(range)
    }
  }
}
