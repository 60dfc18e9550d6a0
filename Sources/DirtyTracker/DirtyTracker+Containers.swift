import Addressing
public import DMAContainer
import EventTrace
public import GuestDirtyLog
import Locking

extension DirtyTracker {
  /// Takes up a container. One of address space `identity` has all RAM mapped when this returns;
  /// while tracking runs its logs are started.
  /// - Throws: nothing is added then, but for ``TrackerError/leftMapped(_:_:_:)``, which names the
  ///   container that stays.
  public func addContainer(
    _ container: any DMAContainer, ownership: ContainerOwnership = .tracker,
    addressSpace: ContainerAddressSpace
  ) throws(TrackerError) -> ContainerID {
    var failure: TrackerError?
    let tracked = try control.withLock { (control) throws(TrackerError) -> TrackedContainer in
      let tracked = try takeUp(container, ownership: ownership, addressSpace: addressSpace)
      if addressSpace == .identity { failure = mapAllRAM(tracked) }
      guard failure == nil || failure?.leavesContainer == true else {
        forget(tracked)
        return tracked
      }
      if control.isTracking { beginAttached(tracked) }
      tracked.operation.withStep { (state: inout ContainerState) in state.publish() }
      return tracked
    }
    tracked.courses.withLock { (pace: inout sending WindowPace) in
      _ = drive(tracked, &pace, isFinal: false)
    }
    if let failure { throw failure }
    return tracked.id
  }

  /// The container is known from here on, with nothing mapped.
  func takeUp(
    _ container: any DMAContainer, ownership: ContainerOwnership,
    addressSpace: ContainerAddressSpace
  ) throws(TrackerError) -> TrackedContainer {
    let live = liveContainers
    guard live.count < Limits.containerCountMax else {
      throw .tooManyContainers(limit: Limits.containerCountMax)
    }
    guard !live.contains(where: { $0.name == container.name }) else {
      throw .nameTaken(container.name)
    }
    let number = directory.withLock { $0.containers.count }
    guard let rawValue = UInt16(exactly: number) else {
      throw .tooManyContainers(limit: Int(UInt16.max) + 1)
    }
    let tracked = try TrackedContainer(
      id: ContainerID(rawValue), backend: container, ownership: ownership,
      addressSpace: addressSpace, settings: settings)
    tracked.operation.withStep { (state: inout ContainerState) in
      state.begin(describedBy: TrackerEvent.containerAdded)
      directory.withLock { $0.containers.append(tracked) }
    }
    return tracked
  }

  /// Maps RAM where no vIOMMU translates, for a container that is being added.
  private func mapAllRAM(_ tracked: TrackedContainer) -> TrackerError? {
    do throws(TrackerError) {
      try mapRAM(tracked, in: .wholeSpace)
      return nil
    } catch {
      guard let left = undo(tracked, .wholeSpace) else { return error }
      return .leftMapped(tracked.id, reason: "\(error)", because: "\(left)")
    }
  }

  /// Begins to start the logs of a container that comes while tracking runs. Its devices may have
  /// written before.
  private func beginAttached(_ tracked: TrackedContainer) {
    tracked.operation.withStep { (state: inout ContainerState) in
      state.begin(.startBegan(container: tracked.id.rawValue, paysOwed: true))
      state.beginStart(paysOwed: true)
    }
  }

  /// With nothing mapped and nothing running.
  private func forget(_ tracked: TrackedContainer) {
    tracked.operation.withLock { (state: inout ContainerState) in
      state.begin(.containerRemoved(container: tracked.id.rawValue))
      state.remove()
    }
    directory.withLock { $0.containers[Int(tracked.id.rawValue)] = nil }
  }

  /// Lets a container go: everything is unmapped, with its dirt, and its logs are stopped.
  /// - Throws: when the container refuses to unmap. It stays.
  public func removeContainer(_ id: ContainerID) throws(TrackerError) {
    let tracked = try container(id)
    endCourse(tracked)
    try tracked.courses.withLock { (pace: inout sending WindowPace) throws(TrackerError) in
      try unmapInPieces(tracked, .wholeSpace)
      let isThere = tracked.operation.withStep { (state: inout ContainerState) in
        guard !state.isRemoved else { return false }
        beginStop(&state, isRemoval: true)
        return true
      }
      guard isThere else { throw .unknownContainer(id) }
      drive(tracked, &pace, isFinal: false)
      // What was mapped since is not watched.
      if let failure = undo(tracked, .wholeSpace) { throw failure }
      control.withLock { _ in forget(tracked) }
    }
  }

  /// A device came or went: the container's `dirtyLogs` are others now. While tracking, everything
  /// mapped writable is marked.
  public func attachmentChanged(_ id: ContainerID) throws(TrackerError) {
    let tracked = try container(id)
    tracked.courses.withLock { (pace: inout sending WindowPace) in
      drive(tracked, &pace, isFinal: false)
      tracked.operation.withStep { (state: inout ContainerState) in
        if state.isRemoved { return }
        state.begin(describedBy: TrackerEvent.attachmentChanged)
        state.attachmentChanged()
      }
      drive(tracked, &pace, isFinal: false)
    }
  }

  /// The guest put the container's devices behind its vIOMMU, or took them out (pass-through).
  /// - Throws: when not everything could be unmapped, or mapped. The address space is what it was;
  ///   what is mapped is in the table, and dirt is in the log.
  public func switchAddressSpace(
    _ id: ContainerID, to space: ContainerAddressSpace
  ) throws(TrackerError) {
    let tracked = try container(id)
    try tracked.courses.withLock { (pace: inout sending WindowPace) throws(TrackerError) in
      drive(tracked, &pace, isFinal: false)
      try control.withLock { (_) throws(TrackerError) in
        let old = tracked.operation.withStep { (state: inout ContainerState) in
          state.isRemoved ? nil : state.addressSpace
        }
        guard let old else { throw .unknownContainer(id) }
        guard old != space else { return }
        try unmapInPieces(tracked, .wholeSpace)
        try change(tracked, to: space)
        guard space == .identity else { return }
        do throws(TrackerError) {
          try mapRAM(tracked, in: .wholeSpace)
        } catch {
          if let left = undo(tracked, .wholeSpace) { note("\(left)") }
          try change(tracked, to: old)
          throw error
        }
      }
    }
  }

  /// - Throws: what was mapped there meanwhile is still mapped, and the space is what it was.
  private func change(
    _ tracked: TrackedContainer, to space: ContainerAddressSpace
  ) throws(TrackerError) {
    try tracked.operation.withLock { (state: inout ContainerState) throws(TrackerError) in
      guard !state.isRemoved else { throw .unknownContainer(tracked.id) }
      // A map that came between the last piece and here.
      state.beginUnmap(.wholeSpace)
      try state.unmap(.wholeSpace)
      state.begin(
        .addressSpaceSwitched(container: tracked.id.rawValue, isIdentity: space == .identity))
      state.switchAddressSpace(to: space)
    }
  }
}

extension ContainerState {
  mutating func switchAddressSpace(to space: ContainerAddressSpace) {
    addressSpace = space
    publish()
  }

  /// With nothing mapped and every log stopped.
  mutating func remove() {
    endCourse()
    owed.forgive()
    isTracking = false
    isRemoved = true
    publish()
  }
}
