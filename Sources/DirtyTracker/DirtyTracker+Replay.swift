import Addressing
package import DMAContainer
package import EventTrace
package import GuestDirtyLog
import Snapshot
import IOVAMapping
import PageBitmap
import Locking

/// What recorded events did, done again to a tracker that nobody else uses and that has no record.
extension DirtyTracker {
  /// A container under the number it had. One whose number is taken is left out.
  /// - Returns: whether it is there now.
  package func replayContainer(
    _ number: UInt16, _ backend: any DMAContainer, ownership: ContainerOwnership,
    addressSpace: ContainerAddressSpace
  ) -> Bool {
    let tracked: TrackedContainer
    do throws(TrackerError) {
      tracked = try TrackedContainer(
        id: ContainerID(number), backend: backend, ownership: ownership,
        addressSpace: addressSpace, settings: settings)
    } catch {
      return false
    }
    return directory.withLock { directory in
      let index = Int(number)
      while directory.containers.count <= index { directory.containers.append(nil) }
      guard directory.containers[index] == nil else { return false }
      directory.containers[index] = tracked
      return true
    }
  }

  /// Refusals are part of the record: what was refused then is refused now.
  /// - Parameter place: of the event, which its marks have too.
  package func replay(_ event: TrackerEvent, at place: JournalPlace = .none) {
    if let container = event.container { change(ContainerID(container)) { $0.place = place } }
    switch event {
    case .containerRemoved(let number):
      change(ContainerID(number)) { $0.remove() }
      directory.withLock { directory in
        if Int(number) < directory.containers.count { directory.containers[Int(number)] = nil }
      }
    case .attachmentChanged(let number, _): change(ContainerID(number)) { $0.attachmentChanged() }
    case .addressSpaceSwitched(let number, let isIdentity):
      change(ContainerID(number)) { $0.switchAddressSpace(to: isIdentity ? .identity : .remapped) }
    case .mapped(let number, let iova, let gpa, let permissions, let isAhead):
      guard !permissions.isEmpty, gpa.advanced(byBytes: iova.lastOffset) != nil else { return }
      let request = MapRequest(
        iova: iova, gpaFirst: gpa, hvaFirst: nil, permissions: permissions)
      // What it refuses it has refused.
      change(ContainerID(number)) { try? $0.map(request, isToldAhead: isAhead) }
    case .unmapped(let number, let iova), .unmappedByVMM(let number, let iova, nil):
      // As it failed then, with the same dirt.
      change(ContainerID(number)) { try? $0.unmap(iova) }
    case .unmappedByVMM(let number, let iova, let answer?): unmapped(number, iova, answer)
    case .ramGone(let number, let gpa): change(ContainerID(number)) { $0.noteGone(gpa) }
    default: replayCourse(event)
    }
  }

  private func unmapped(_ number: UInt16, _ iova: IOVARange, _ answer: UnmapAnswer) {
    change(ContainerID(number)) { state in
      // What it refuses it has refused, with a bitmap or without.
      if let bitmap = Self.bitmap(answer) {
        try? state.unmapped(iova, bitmap)
      } else {
        try? state.unmap(iova)
      }
    }
  }

  /// Nil for what no bitmap can be: more than one query may take, a window that is no whole pages.
  private static func bitmap(_ answer: UnmapAnswer) -> QueryBitmap? {
    guard let bytes = QueryBitmap.byteCount(window: answer.window, pageSize: answer.pageSize),
      bytes <= Int(Limits.queryBitmapByteCountMax),
      var bitmap = try? QueryBitmap(byteCountMax: max(8, bytes)),
      (try? bitmap.reset(window: answer.window, pageSize: answer.pageSize)) != nil
    else { return nil }
    for run in answer.dirty { bitmap.insert(run) }
    return bitmap
  }

  private func replayCourse(_ event: TrackerEvent) {
    switch event {
    case .startBegan(let number, let paysOwed):
      change(ContainerID(number)) { $0.beginStart(paysOwed: paysOwed) }
    case .syncBegan(let number, let range, let isFinal, let asks):
      change(ContainerID(number)) {
        $0.beginSync(SyncRequest(range: range, isFinal: isFinal, asks: asks))
      }
    case .stopBegan(let number, let stop):
      change(ContainerID(number)) {
        $0.beginStop(stop)
      }
    case .stepped(let number, let window, let mappings, let pages):
      let bounds = StepBounds(
        windowByteCountMax: window, mappingCountMax: Int(clamping: mappings), pageCountMax: pages)
      change(ContainerID(number)) { if $0.course != nil { _ = $0.step(bounds) } }
    case .courseEnded(let number): change(ContainerID(number)) { $0.endCourse() }
    default: replayListener(event)
    }
  }

  /// What only the tracker knows. What was told and nothing else changes nothing.
  private func replayListener(_ event: TrackerEvent) {
    switch event {
    case .transactionBegan:
      control.withLock { $0.transaction = $0.transaction ?? RAMTransaction() }
    case .transactionCommitted: control.withLock { $0.transaction = nil }
    case .regionAdded(let region):
      control.withLock { $0.transaction?.added.append(region) }
    case .regionRemoved(let region):
      control.withLock { $0.transaction?.removed.append(region) }
    case .globalLogStarted: control.withLock { $0.isTracking = true }
    case .globalLogStopped: control.withLock { $0.isTracking = false }
    case .ramDiscarded(let range): settings.memory.discard(range)
    case .ramPopulated(let range): settings.memory.populate(range)
    case .ramAdded(let region): settings.memory.add(region)
    case .ramRemoved(let region): settings.memory.remove(region)
    default: break
    }
  }
}
