public import Addressing
public import GuestDirtyLog
public import PageBitmap
import DMAContainer
import EventTrace
import IOVAMapping
import Locking

/// What a virtual IOMMU tells a client for MAP and UNMAP events.
extension DirtyTracker {
  /// The guest maps. Mapped so already: nothing happens. Mapped otherwise: the old mapping goes
  /// first and its dirt is credited to the page it had.
  public func iommuMap(
    _ id: ContainerID, _ iova: IOVARange, to gpa: GPA, permissions: Permissions
  ) throws(TrackerError) {
    guard let record = settings.record else {
      return try map(container(id), iova, gpa, permissions)
    }
    try gate.withLock { (gate: inout sending Gate) throws(TrackerError) in
      record.appendMapped(
        container: id.rawValue, iova: iova, gpaFirst: gpa, permissions: permissions)
      let tracked = try takeRecent(id, &gate)
      try map(tracked, iova, gpa, permissions)
      gate.recent = tracked
    }
  }

  /// Taken out and put back, not copied: a count of references up and down costs as much as a lock.
  private func takeRecent(
    _ id: ContainerID, _ gate: inout Gate
  ) throws(TrackerError) -> TrackedContainer {
    if let tracked = gate.recent.take(), tracked.id == id { return tracked }
    return try container(id)
  }

  private func map(
    _ tracked: TrackedContainer, _ iova: IOVARange, _ gpa: GPA, _ permissions: Permissions
  ) throws(TrackerError) {
    guard !permissions.isEmpty else { throw .noPermissions(container: tracked.name, iova) }
    guard let last = gpa.advanced(byBytes: iova.lastOffset) else {
      throw .mapping(container: tracked.name, .gpaOverflow(iova, gpaFirst: gpa))
    }
    let behind = AddressRange(first: gpa, last: last)
    guard let hva = settings.memory.hva(behind: behind) else {
      throw .notContiguous(container: tracked.name, iova, behind)
    }
    let request = MapRequest(iova: iova, gpaFirst: gpa, hvaFirst: hva, permissions: permissions)
    try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
      guard !op.isRemoved else { throw .unknownContainer(tracked.id) }
      guard op.addressSpace == .remapped else {
        throw .notRemapped(container: tracked.name, iova)
      }
      try tracked.map(&op, request)
    }
  }

  /// The guest unmaps, or invalidates: exactly what is mapped, more, less, or what was never
  /// mapped, up to all 2^64 bytes. Without effect on a container no vIOMMU translates for.
  public func iommuUnmap(_ id: ContainerID, _ iova: IOVARange) throws(TrackerError) {
    guard let record = settings.record else { return try unmap(container(id), iova) }
    try gate.withLock { (gate: inout sending Gate) throws(TrackerError) in
      record.appendUnmapped(container: id.rawValue, iova: iova)
      let tracked = try takeRecent(id, &gate)
      try unmap(tracked, iova)
      gate.recent = tracked
    }
  }

  private func unmap(_ tracked: TrackedContainer, _ iova: IOVARange) throws(TrackerError) {
    try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
      guard op.addressSpace == .remapped else { return }
      try tracked.unmap(&op, iova)
    }
  }

  /// The VMM has unmapped and got this bitmap for it.
  public func iommuUnmapped(
    _ id: ContainerID, _ iova: IOVARange, dirty: borrowing QueryBitmap
  ) throws(TrackerError) {
    try taking(.unmappedByVMM(container: id.rawValue, iova: iova, answer: Self.answer(dirty))) {
      () throws(TrackerError) in
      let tracked = try container(id)
      try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
        try tracked.unmapped(&op, iova, dirty)
      }
    }
  }

  /// The VMM has unmapped, and knows nothing of what was written: all of it counts.
  public func iommuUnmapped(_ id: ContainerID, _ iova: IOVARange) throws(TrackerError) {
    let tracked = try container(id)
    guard !tracked.performsCalls else {
      throw .notOwnedByVMM(container: tracked.name, iova)
    }
    try taking(.unmappedByVMM(container: id.rawValue, iova: iova, answer: nil)) {
      () throws(TrackerError) in
      try tracked.operation.withLock { (op: inout ContainerOperation) throws(TrackerError) in
        try tracked.unmap(&op, iova)
      }
    }
  }

  private static func answer(_ dirty: borrowing QueryBitmap) -> UnmapAnswer? {
    guard let window = dirty.window else { return nil }
    var answer = UnmapAnswer(window: window, dirty: [])
    dirty.forEachDirtyRun { answer.dirty.append($0) }
    return answer
  }

  /// The vIOMMU tells every translation that is live. What is mapped so already is not mapped
  /// again; what the replay leaves out stays, since its unmap is still to come.
  public func iommuReplay(_ id: ContainerID, _ mappings: [Mapping]) throws(TrackerError) {
    try taking(.translationsReplayed(container: id.rawValue, mappings)) {
      () throws(TrackerError) in
      for mapping in mappings {
        try map(container(id), mapping.iova, mapping.gpaFirst, mapping.permissions)
      }
    }
  }
}
