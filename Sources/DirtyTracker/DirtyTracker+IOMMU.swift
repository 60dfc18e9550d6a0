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
  ///
  /// A VMM that owns the container and maps first, checks the error, and then tells, tells late:
  /// devices may have written already, and a sync may have been answered for an IOVA nobody knew.
  /// So while tracking runs, what it tells is marked dirty.
  /// - Parameter isAhead: the VMM that owns the container tells before it maps: nothing can have
  ///   been written. Of no meaning for a container the tracker commands.
  public func iommuMap(
    _ id: ContainerID, _ iova: IOVARange, to gpa: GPA, permissions: Permissions,
    isAhead: Bool = false
  ) throws(TrackerError) {
    let tracked = try container(id)
    guard !permissions.isEmpty else { throw .noPermissions(container: tracked.name, iova) }
    guard let last = gpa.advanced(byBytes: iova.lastOffset) else {
      throw .mapping(container: tracked.name, .gpaOverflow(iova, gpaFirst: gpa))
    }
    let behind = AddressRange(first: gpa, last: last)
    let memory = settings.memory.hostMemory(behind: behind)
    if memory == .notContiguous {
      throw .notContiguous(container: tracked.name, iova, behind)
    }
    let request = MapRequest(
      iova: iova, gpaFirst: gpa, hvaFirst: memory.hva, permissions: permissions)
    try tracked.operation.withLock { (state: inout ContainerState) throws(TrackerError) in
      guard !state.isRemoved else { throw .unknownContainer(tracked.id) }
      guard state.addressSpace == .remapped else {
        throw .notRemapped(container: tracked.name, iova)
      }
      state.beginMap(request, isToldAhead: isAhead)
      try state.map(request, isToldAhead: isAhead)
    }
  }

  /// The guest unmaps, or invalidates: exactly what is mapped, more, less, or what was never
  /// mapped, up to all 2^64 bytes. Without effect on a container no vIOMMU translates for.
  ///
  /// A range of many mappings goes in pieces, and others map and unmap between two of them. What
  /// is mapped in the range meanwhile stays.
  /// - Throws: at the first piece that fails: those before it are gone, with their dirt.
  public func iommuUnmap(_ id: ContainerID, _ iova: IOVARange) throws(TrackerError) {
    let tracked = try container(id)
    let isRemapped = try tracked.operation.withLock {
      (state: inout ContainerState) throws(TrackerError) -> Bool in
      guard state.addressSpace == .remapped else { return false }
      guard UnmapPieces.isOne(iova) else { return true }
      state.beginUnmap(iova)
      try state.unmap(iova)
      return false
    }
    if isRemapped { try unmapInPieces(tracked, iova) }
  }

  /// The VMM has unmapped and got this bitmap for it.
  public func iommuUnmapped(
    _ id: ContainerID, _ iova: IOVARange, dirty: borrowing QueryBitmap
  ) throws(TrackerError) {
    let tracked = try container(id)
    try tracked.operation.withLock { (state: inout ContainerState) throws(TrackerError) in
      state.begin(
        .unmappedByVMM(container: id.rawValue, iova: iova, answer: Self.answer(dirty)))
      try state.unmapped(iova, dirty)
    }
  }

  /// The VMM has unmapped, and knows nothing of what was written: all of it counts, unless each of
  /// the container's logs still answers for it
  /// (``DMAContainer/DirtyLogCapabilities/isAskedAfterUnmap``): these are asked.
  public func iommuUnmapped(_ id: ContainerID, _ iova: IOVARange) throws(TrackerError) {
    let tracked = try container(id)
    guard !tracked.context.performsCalls else {
      throw .notOwnedByVMM(container: tracked.name, iova)
    }
    try inPieces(tracked, iova) { (state: inout ContainerState, piece) throws(TrackerError) in
      state.begin(.unmappedByVMM(container: id.rawValue, iova: piece, answer: nil))
      try state.unmap(piece)
    }
  }

  /// Unmaps a range of any number of mappings, a bounded number of them at a time.
  func unmapInPieces(_ tracked: TrackedContainer, _ iova: IOVARange) throws(TrackerError) {
    try inPieces(tracked, iova) { (state: inout ContainerState, piece) throws(TrackerError) in
      state.beginUnmap(piece)
      try state.unmap(piece)
    }
  }

  private func inPieces(
    _ tracked: TrackedContainer, _ iova: IOVARange,
    _ unmap: (inout ContainerState, IOVARange) throws(TrackerError) -> Void
  ) throws(TrackerError) {
    var pieces = UnmapPieces(iova)
    var space: ContainerAddressSpace?
    while pieces.from != nil {
      try tracked.operation.withLock { (state: inout ContainerState) throws(TrackerError) in
        // What another address space maps is not what was to go.
        guard space ?? state.addressSpace == state.addressSpace,
          let piece = state.next(&pieces)
        else { return pieces.end() }
        space = state.addressSpace
        try unmap(&state, piece)
      }
    }
  }

  private static func answer(_ dirty: borrowing QueryBitmap) -> UnmapAnswer? {
    guard let window = dirty.window else { return nil }
    var answer = UnmapAnswer(window: window, pageSize: dirty.pageSize, dirty: [])
    dirty.forEachDirtyRun { answer.dirty.append($0) }
    return answer
  }

  /// The vIOMMU tells every translation that is live. What is mapped so already is not mapped
  /// again; what the replay leaves out stays, since its unmap is still to come.
  /// - Throws: ``TrackerError/replayIncomplete(container:refused:count:reason:)`` once all were
  ///   tried.
  public func iommuReplay(
    _ id: ContainerID, _ mappings: [Mapping], isAhead: Bool = false
  ) throws(TrackerError) {
    let tracked = try container(id)
    var (refused, count, reason): ([IOVARange], Int, TrackerError?) = ([], 0, nil)
    for mapping in mappings {
      do throws(TrackerError) {
        try iommuMap(
          id, mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions,
          isAhead: isAhead)
      } catch {
        count += 1
        reason = reason ?? error
        if refused.count < TrackerError.namedRangeCountMax { refused.append(mapping.iova) }
      }
    }
    guard let reason else { return }
    throw .replayIncomplete(
      container: tracked.name, refused: refused, count: count, reason: "\(reason)")
  }
}
