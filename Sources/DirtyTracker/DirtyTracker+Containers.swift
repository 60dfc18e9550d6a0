import Addressing
public import DMAContainer
import EventTrace
public import GuestDirtyLog
import Locking

extension DirtyTracker {
  /// Takes up a container. One of address space `identity` has all RAM mapped when this returns;
  /// while tracking runs its logs are started.
  public func addContainer(
    _ container: any DMAContainer, ownership: ContainerOwnership = .tracker,
    addressSpace: ContainerAddressSpace
  ) throws(TrackerError) -> ContainerID {
    try taking(
      .containerAdded(
        container: nextNumber,
        TraceContainer(container, ownership: ownership, addressSpace: addressSpace))
    ) { () throws(TrackerError) -> ContainerID in
      try add(container, ownership, addressSpace)
    }
  }

  private var nextNumber: UInt16 {
    UInt16(truncatingIfNeeded: directory.withLock { $0.containers.count })
  }

  private func add(
    _ container: any DMAContainer, _ ownership: ContainerOwnership,
    _ addressSpace: ContainerAddressSpace
  ) throws(TrackerError) -> ContainerID {
    try control.withLock { (control) throws(TrackerError) -> ContainerID in
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
      let isTracking = control.isTracking
      try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
        if addressSpace == .identity {
          do throws(TrackerError) {
            try tracked.mapRAM(&op, in: .wholeSpace)
          } catch {
            try? tracked.unmap(&op, .wholeSpace)
            throw error
          }
        }
        if isTracking {
          tracked.start(&op)
          // Its devices may have written before their logs ran.
          tracked.assumeWritten(&op, in: .wholeSpace, .report(.conservative(tracked.id)))
        }
        tracked.publish(op)
      }
      directory.withLock { $0.containers.append(tracked) }
      return tracked.id
    }
  }

  /// Lets a container go: everything is unmapped, with its dirt, and its logs are stopped.
  /// - Throws: when the container refuses to unmap. It stays.
  public func removeContainer(_ id: ContainerID) throws(TrackerError) {
    try taking(.containerRemoved(container: id.rawValue)) { () throws(TrackerError) -> Void in
      try control.withLock { (_) throws(TrackerError) in
        let tracked = try container(id)
        try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
          try tracked.unmap(&op, .wholeSpace)
          _ = log.releaseHeldBack(for: id, by: .unmap(id))
          tracked.stop(&op)
          op.isRemoved = true
        }
        directory.withLock { $0.containers[Int(id.rawValue)] = nil }
      }
    }
  }

  /// A device came or went: the container's `dirtyLogs` are others now. While tracking, everything
  /// mapped writable is marked.
  public func attachmentChanged(_ id: ContainerID) throws(TrackerError) {
    let tracked = try container(id)
    taking(.attachmentChanged(container: id.rawValue, tracked.traced)) {
      tracked.operation.withLock { (op: inout ContainerOperation) in
        if !op.isRemoved { tracked.attachmentChanged(&op) }
      }
    }
  }

  /// The guest put the container's devices behind its vIOMMU, or took them out (pass-through).
  /// - Throws: when not everything could be unmapped, or mapped; dirt is in the log.
  public func switchAddressSpace(
    _ id: ContainerID, to space: ContainerAddressSpace
  ) throws(TrackerError) {
    try taking(.addressSpaceSwitched(container: id.rawValue, isIdentity: space == .identity)) {
      () throws(TrackerError) -> Void in
      try control.withLock { (_) throws(TrackerError) in
        let tracked = try container(id)
        try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
          try tracked.switchAddressSpace(&op, to: space)
        }
      }
    }
  }
}
