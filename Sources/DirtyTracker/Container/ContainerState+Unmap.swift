import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

extension ContainerState {
  /// Removes what is mapped in `range`, which may be larger than that, or hold nothing: its dirt is
  /// in the log when this returns, credited through the mappings that go.
  ///
  /// Where it throws, what is still mapped is still in the table, and dirty.
  mutating func unmap(_ range: IOVARange) throws(TrackerError) {
    let range = range.expanded(to: pageSize)
    let found = context.book.withLock { (book: inout ContainerBook) in book.table.cut(range) }
    guard let cut = found else { return }
    guard context.performsCalls else {
      // A log that answers for what is unmapped knows all of it; another should have been asked.
      if isTracking || owed.overlaps(cut.hull) {
        collectAfter(in: cut.hull, isWatched: !hasOwnLog)
      }
      return try removeUnmapped(cut.hull)
    }
    if let only = cut.onlyMapping { return try unmapOnly(cut, only) }
    // Room for the parts is known before the first call.
    if let refusal = cut.refusal { throw .mapping(container: name, refusal) }
    guard cut.isCut, context.bisectPolicy == .refuse else { return try unmapWhole(cut.hull) }
    try unmapCut(cut)
  }

  /// What nearly every unmap is about, one mapping and all of it: searched once, in two takes of
  /// the table's lock.
  private mutating func unmapOnly(_ cut: MappingCut, _ only: Mapping) throws(TrackerError) {
    if isTracking, !settings.omitting.contains(.unmap) {
      if canUnmapAtomically, fitsUnmapBitmap(only.iova) {
        try unmapAtomically(only.iova, only)
      } else {
        try unmapInSteps(only.iova, only)
      }
    } else {
      try unmapPlainly(only.iova)
      if owed.overlaps(only.iova) { assumeWritten(only) }
    }
    removeOnly(cut, only)
  }

  /// From the table, once its dirt is in the log.
  mutating func removeOnly(_ cut: MappingCut, _ only: Mapping) {
    copy?.note(only.iova)
    context.book.withLock { (book: inout ContainerBook) in
      // A whole mapping of a table that nobody else changes.
      do throws(MappingError) {
        try book.table.unmap(cut)
      } catch {
        preconditionFailure("container \(context.name): \(error)")
      }
    }
  }

  private func fitsUnmapBitmap(_ range: IOVARange) -> Bool {
    guard let bytes = QueryBitmap.byteCount(window: range, pageSize: pageSize) else { return false }
    return UInt64(bytes) <= capabilities.unmapBitmapByteCountMax
  }

  /// The backend removes mappings only as they were made. Between the unmap and the map of the rest
  /// no device can write there, so dirt is missed only where the unmap itself trusts the guest.
  private mutating func unmapCut(_ cut: MappingCut) throws(TrackerError) {
    let kept = [cut.left, cut.right].compactMap { $0 }
    do throws(TrackerError) {
      try unmapWhole(cut.uncut)
    } catch {
      restoreKept(kept)
      throw error
    }
    if isTracking, trustsGuest {
      // What the guest unmaps is its word; of what stays it has said nothing.
      for part in kept { assumeWritten(part) }
    }
    var first: TrackerError?
    for part in kept {
      do throws(TrackerError) {
        try mapAgain(part)
      } catch {
        // One error names one part.
        if first != nil { notes.append("\(error)") }
        first = first ?? error
      }
    }
    if let first { throw first }
  }

  /// Where asking for dirt and unmapping are two calls, the guest's devices are trusted to leave
  /// alone what it unmaps. Never on an identity space, where no guest has asked for the unmap.
  private var trustsGuest: Bool {
    settings.policy.twoStepUnmap == .trustGuest && addressSpace != .identity
  }

  /// What the VMM has unmapped already.
  mutating func removeUnmapped(_ range: IOVARange) throws(TrackerError) {
    do throws(TrackerError) {
      try checkCut(range)
    } catch {
      distrustTable("IOVA \(range) is unmapped and its table has no room for the parts beside it")
      throw error
    }
    remove(range)
  }

  /// A cut makes a mapping more, for which the table must have room.
  private mutating func checkCut(_ range: IOVARange) throws(TrackerError) {
    let refusal = context.book.withLock { (book: inout ContainerBook) in
      book.table.cut(range)?.refusal
    }
    if let refusal { throw .mapping(container: name, refusal) }
  }

  /// After an unmap that failed on its way: what it removed may have taken a part along that was to
  /// stay.
  private mutating func restoreKept(_ kept: [Mapping]) {
    for part in kept {
      let isThere = context.book.withLock { (book: inout ContainerBook) in
        book.table.firstMapping(overlapping: part.iova) != nil
      }
      guard !isThere else { continue }
      do throws(TrackerError) { try mapAgain(part) } catch { notes.append("\(error)") }
    }
  }

  private mutating func mapAgain(_ part: Mapping) throws(TrackerError) {
    // It was mapped before, so there is one piece of memory behind it, or none of this process.
    let request = MapRequest(
      iova: part.iova, gpaFirst: part.gpaFirst,
      hvaFirst: settings.memory.hostMemory(behind: part.gpa).hva,
      permissions: part.permissions)
    do throws(TrackerError) {
      try map(request)
    } catch {
      guard case .mapFailed(let refusal) = error else { throw error }
      throw .keptPartLost(part.iova, refusal)
    }
  }

  /// A range that cuts no mapping, or of a backend that does not mind.
  private mutating func unmapWhole(_ range: IOVARange) throws(TrackerError) {
    guard isTracking, !settings.omitting.contains(.unmap) else {
      try unmapPlainly(range)
      if owed.overlaps(range) { assumeWritten(in: range, .report(.conservative(id))) }
      return remove(range)
    }
    guard canUnmapAtomically else {
      try unmapInSteps(range)
      return remove(range)
    }
    let plan = UnmapPlan(capabilities, pageSize: pageSize)
    var steps: [QueryPlan.Step] = []
    context.book.withLock { (book: inout ContainerBook) in
      plan.forEach(book.table, in: range) { steps.append($0) }
    }
    if steps.count > 1, case .window(let chunk) = steps[0], !hasRoom(toCut: chunk) {
      notes.append("\(name): IOVA \(range) was unmapped in one piece: its table is full")
      try unmapPlainly(range)
      assumeWritten(in: range, .report(.conservative(id)))
      return remove(range)
    }
    // Each chunk is gone as a whole, from backend and table, before the next: when one fails, the
    // table says what is true.
    for step in steps {
      switch step {
      case .window(let chunk):
        try unmapAtomically(chunk)
        remove(chunk)
      case .unqueryable(let part, let reason):
        notes.append("\(name): IOVA \(part) was unmapped without its bitmap: \(reason)")
        try unmapPlainly(part)
        assumeWritten(in: part, .report(.conservative(id)))
        remove(part)
      }
    }
  }

  /// A chunk from the middle of a mapping leaves two parts for a while.
  private mutating func hasRoom(toCut chunk: IOVARange) -> Bool {
    do throws(TrackerError) { try checkCut(chunk) } catch { return false }
    return true
  }

  /// One call removes and reports, and the report is of use.
  private var canUnmapAtomically: Bool {
    capabilities.hasAtomicUnmap && hasOwnLog && !isEverythingMapped
  }

  /// A log that runs and knows nothing of a range once it is unmapped.
  private var hasOwnLog: Bool {
    logs.contains { $0.mode == .logging && !$0.capabilities.isAskedAfterUnmap }
  }

  /// - Parameter only: the mapping the chunk is, where it is one.
  private mutating func unmapAtomically(
    _ chunk: IOVARange, _ only: Mapping? = nil
  ) throws(TrackerError) {
    var isWatched = prepareBitmap(chunk, pageSize)
    var mayBeGone = false
    if isWatched {
      counts.mappingCalls &+= 1
      do throws(ContainerError) {
        try context.backend.unmap(reportingInto: &bitmap)
        answered(.unmapWithDirty)
        if let only { scatter(through: only) } else { scatter(.report(.unmap(id))) }
      } catch {
        answered(.unmapWithDirty, range: chunk, error: error)
        (isWatched, mayBeGone) = (false, error.isPartial || error.isGone)
        notes.append("\(error); it was unmapped without, and is marked dirty")
      }
    }
    if !isWatched { try unmapPlainly(chunk, mayBeGone: mayBeGone) }
    collectAfter(in: chunk, isWatched: isWatched, only)
  }

  private mutating func scatter(through only: Mapping) {
    let credit = UnmapCredit(log: log, id: id, place: place)
    counts.marked += credit.give(bitmap, through: only, &mappings)
  }

  /// Where no call both unmaps and reports.
  private mutating func unmapInSteps(
    _ range: IOVARange, _ only: Mapping? = nil
  ) throws(TrackerError) {
    let hasOwnLog = hasOwnLog
    let asksFirst = hasOwnLog && trustsGuest
    if asksFirst, !isEverythingMapped {
      for index in logs.indices
      where logs[index].mode == .logging && !logs[index].capabilities.isAskedAfterUnmap {
        let clear = !logs[index].capabilities.canPeek
        queryUnmapped(log: index, in: range, clear: clear)
      }
    }
    try unmapPlainly(range)
    collectAfter(in: range, isWatched: !hasOwnLog || asksFirst, only)
  }

  /// What is known once the range is unmapped, its mappings still in the table.
  /// - Parameter isWatched: the logs that had to be asked before were.
  mutating func collectAfter(in range: IOVARange, isWatched: Bool, _ only: Mapping? = nil) {
    guard !settings.omitting.contains(.unmap) else { return }
    guard isWatched, !isEverythingMapped, !isOwed(range) else {
      if let only { return assumeWritten(only) }
      return assumeWritten(in: range, .report(.conservative(id)))
    }
    for index in logs.indices
    where logs[index].mode == .logging && logs[index].capabilities.isAskedAfterUnmap {
      queryUnmapped(log: index, in: range)
    }
  }

  private func isOwed(_ range: IOVARange) -> Bool {
    settings.pace.planted != .unmapPaysNothing && owed.overlaps(range)
  }

  /// On failure everything mapped writable there is marked, and stays mapped.
  /// - Parameter mayBeGone: an unmap of this range failed just before, and may have removed it.
  private mutating func unmapPlainly(
    _ range: IOVARange, mayBeGone: Bool = false
  ) throws(TrackerError) {
    counts.mappingCalls &+= 1
    do throws(ContainerError) {
      try context.backend.unmap(range)
      answeredClean()
    } catch {
      answered(.unmap, range: range, error: error)
      // iommufd finds nothing there once an earlier unmap has failed half way. Without one it means
      // that the backend holds other mappings than the table, and nothing was removed.
      let isGone =
        error.errno == ContainerErrno.enoent && !error.isPartial && (hasPartialUnmap || mayBeGone)
      if isGone || error.isGone || (error.isPartial && hasUnmappedRest(range)) {
        notes.append("\(error); nothing is left of it, and it is marked dirty")
        if isTracking { assumeWritten(in: range, .report(.conservative(id))) }
        return
      }
      // Of this call or of the one before.
      let isPartial = error.isPartial || mayBeGone
      if isTracking {
        assumeWritten(in: range, .report(.conservative(id)))
        if isPartial { distrustWalks() }
      }
      if isPartial { hasPartialUnmap = true }
      throw .unmapFailed(error.asPartial(isPartial))
    }
  }

  /// A second try, after one that failed half way.
  private mutating func hasUnmappedRest(_ range: IOVARange) -> Bool {
    counts.mappingCalls &+= 1
    do throws(ContainerError) {
      try context.backend.unmap(range)
      answeredClean()
      return true
    } catch {
      answered(.unmap, range: range, error: error)
      return error.errno == ContainerErrno.enoent && !error.isPartial
    }
  }

  /// After half an unmap the backend may have holes the table does not know of, at which a log that
  /// cannot cross them would end its answers.
  mutating func distrustWalks() {
    for index in logs.indices
    where logs[index].mode == .logging && !logs[index].capabilities.mayCrossHoles {
      stopLog(index)
      logs[index].mode = .everythingMapped
    }
    publish()
  }

  /// The VMM's mappings are no longer those of the table: nobody knows what its devices can reach.
  mutating func distrustTable(_ reason: String) {
    unknownMappings = reason
    counts.marked += log.markEverything(by: .conservative(id), at: place)
    notes.append("container \(name): \(reason); every page is marked dirty, and in every sync")
  }

  mutating func remove(_ range: IOVARange) {
    copy?.note(range)
    context.book.withLock { (book: inout ContainerBook) in
      // Whole pages of a table that may be cut, with room for the cut.
      do throws(MappingError) {
        try book.table.unmap(range)
      } catch {
        preconditionFailure("container \(context.name): \(error)")
      }
    }
  }
}

extension ContainerError {
  /// The same, for a range of which some may be gone.
  fileprivate func asPartial(_ isPartial: Bool) -> ContainerError {
    guard isPartial, !self.isPartial else { return self }
    return ContainerError(
      operation, object: object, range: range, errno: errno, detail: detail, isPartial: true)
  }
}
