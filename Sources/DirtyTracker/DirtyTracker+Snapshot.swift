import Addressing
package import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking
public import Snapshot

/// The state as a value, taken in bounded pieces, and a tracker from one. See `Docs/records/0014`.
extension DirtyTracker {
  /// The state of the tracker and its log, for a replay that does not go back to their making.
  ///
  /// Maps and unmaps wait for one piece at a time; courses, and changes of the log's readers and
  /// regions, wait for all of it.
  /// - Returns: nil without a record, while a harvest is being taken, and where a table changes
  ///   more quickly than it can be copied.
  public func snapshot() -> TrackerSnapshot? {
    guard settings.record != nil else { return nil }
    return withCourses(of: liveContainers[...], pausing: [])
  }

  /// Gives the record a new snapshot before the events that the old one needs are dropped. Where
  /// there is none to be had it is tried again at the next sync, and the record says that it cannot
  /// be replayed once events are missing.
  func keepReplayable() {
    guard let record = settings.record, record.needsSnapshot, let snapshot = snapshot() else {
      return
    }
    record.keep(snapshot: snapshot.encoded(), firstSequence: snapshot.firstSequence)
  }

  /// Holds the courses of all containers, in the order of their numbers.
  private func withCourses(
    of containers: ArraySlice<TrackedContainer>, pausing held: [TrackedContainer]
  ) -> TrackerSnapshot? {
    guard let next = containers.first else { return snapshot(of: held) }
    return next.courses.withLock { (pace: inout sending WindowPace) -> TrackerSnapshot? in
      // One that a thread stepping by hand has left: its step would be lost.
      let isBetween = next.operation.withStep { (state: inout ContainerState) in
        state.course == nil && state.collection == nil
      }
      guard isBetween else { return nil }
      return withCourses(of: containers.dropFirst(), pausing: held + [next])
    }
  }

  private func snapshot(of containers: [TrackedContainer]) -> TrackerSnapshot? {
    guard let record = settings.record, let first = log.beginCopy() else { return nil }
    let begun = control.withLock { control -> TrackerSnapshot? in
      // One that came since would be in neither part.
      guard liveContainers.map(\.id) == containers.map(\.id) else { return nil }
      var snapshot = TrackerSnapshot(
        firstSequence: first.sequence,
        configuration: Self.configuration(policy, settings.omitting),
        place: record.next.sequence)
      snapshot.isTracking = control.isTracking
      snapshot.transaction = control.transaction.map {
        .init(added: $0.added, removed: $0.removed)
      }
      snapshot.ram = settings.memory.regions
      snapshot.discarded = settings.memory.discarded
      return snapshot
    }
    guard var snapshot = begun else { return nil }
    for tracked in containers {
      guard let copy = copy(tracked) else { return nil }
      snapshot.containers.append(copy)
    }
    snapshot.log = log.copy(holders: containers.map(\.context.holder))
    return snapshot
  }

  private func copy(_ tracked: TrackedContainer) -> SnapshotContainer? {
    var pieces: [SnapshotContainer.Piece] = []
    tracked.operation.withStep { (state: inout ContainerState) in state.beginCopy() }
    defer { tracked.operation.withStep { (state: inout ContainerState) in state.endCopy() } }
    var backoff = StepBackoff()
    while true {
      var last: SnapshotContainer?
      let began = settings.pace.clock?() ?? 0
      let goesOn = tracked.operation.withStep { (state: inout ContainerState) -> Bool in
        switch state.copyNext() {
        case .piece(let piece):
          pieces.append(piece)
          return true
        case .last(let found):
          last = found
          return false
        case .none: return false
        }
      }
      guard goesOn else {
        last?.table = pieces
        return last
      }
      let took = (settings.pace.clock?() ?? 0) &- began
      backoff.giveWay(tracked.operation, after: took, settings.pace)
    }
  }

  /// Makes a fresh tracker, without a record, the one that was copied; its log likewise.
  /// - Parameter backends: for each container, and for each of its dirty logs by identity.
  /// - Returns: what cannot be, a sentence; the tracker is of no use then.
  package func restore(
    _ snapshot: TrackerSnapshot,
    _ backends: (SnapshotContainer) -> (any DMAContainer, [UInt64: any DirtyLog])
  ) -> String? {
    control.withLock { control in
      control.isTracking = snapshot.isTracking
      control.transaction = snapshot.transaction.map {
        RAMTransaction(
          removed: $0.removed, added: $0.added)
      }
    }
    for region in snapshot.ram { settings.memory.add(region) }
    for range in snapshot.discarded { settings.memory.discard(range) }
    var holders: [UInt16: HolderID] = [:]
    for copy in snapshot.containers {
      let (backend, logs) = backends(copy)
      let isThere = replayContainer(
        copy.number, backend, ownership: copy.container.isOwnedByVMM ? .vmm : .tracker,
        addressSpace: copy.container.isIdentity ? .identity : .remapped)
      guard isThere else { return "container number \(copy.number) is there twice" }
      var failure: String?
      change(ContainerID(copy.number)) { state in
        holders[copy.number] = state.holder
        failure = state.restore(copy, logs)
      }
      if let failure { return "container \(copy.container.name): \(failure)" }
    }
    return log.restore(snapshot.log, holders: holders)
  }
}
