import Addressing
import DMAContainer
import GuestDirtyLog

extension TrackedContainer {
  /// Brings the dirt of this container into the log.
  /// - Parameter range: only what is mapped there; held-back pages are settled when it is all.
  func sync(_ op: inout ContainerOperation, in range: IOVARange, isFinal: Bool, asks: Bool) {
    guard op.isTracking else {
      assumeWritten(&op, in: .wholeSpace, .report(.conservative(id)))
      op.notes.append("\(name) is not tracked: everything it maps writable is marked dirty")
      return
    }
    let isEveryRound = settings.policy.pinnedPages == .everyRound
    let omitsPinned = settings.omitting.contains(.pinned)
    let holdsBack = !isEveryRound && (!isFinal || omitsPinned)
    if op.isEverythingMapped {
      assumeWritten(&op, in: range, holdBack: holdsBack)
    }
    for index in op.logs.indices where op.logs[index].mode == .logging {
      let isPinned = op.logs[index].capabilities.scope == .pinned
      guard asks || isPinned else { continue }
      op.unloggedPages = 0
      let fate =
        isPinned && holdsBack ? DirtyFate.holdBack : .report(.deviceQuery(id))
      query(
        &op, log: index, in: range, QueryUse(fate: fate, holdsBackUnwatched: holdsBack))
      if !isFinal { rearmIfNeeded(&op, log: index) }
    }
    guard range == .wholeSpace else { return }
    settle(&op, isFinal: isFinal)
  }

  private func settle(_ op: inout ContainerOperation, isFinal: Bool) {
    if isFinal, settings.omitting.contains(.pinned) {
      log.dropHeldBack(for: id)
    } else if isFinal || settings.policy.pinnedPages == .everyRound {
      op.count += log.releaseHeldBack(for: id, by: .deviceQuery(id))
    } else {
      op.count += log.settleHeldBack(for: id, by: .deviceQuery(id))
    }
  }

  /// Calls so far were the guest's maps and unmaps; those from here on are the report's own.
  func beginShare(_ op: inout ContainerOperation) {
    op.mappingCallCount &+= op.callCount
    op.callCount = 0
  }

  /// What happened since the last report.
  func takeShare(
    _ op: inout ContainerOperation, into report: inout SyncReport
  ) {
    var share = SyncReport.ContainerShare(container: id, name: name, scopes: op.logs.map(\.scope))
    share.backendCallCount = op.callCount
    share.mappingCallCount = op.mappingCallCount
    share.dirtyPages = op.count.dirtyPages
    share.newlyDirtyPages = op.count.newlyDirtyPages
    share.heldBackPages = op.heldBackPages
    report.containers.append(share)
    report.notes.append(contentsOf: op.notes.take())
    op.callCount = 0
    op.mappingCallCount = 0
    op.reportedPages = op.markedPages
    op.count = MarkCount()
    op.heldBackPages = 0
  }
}
