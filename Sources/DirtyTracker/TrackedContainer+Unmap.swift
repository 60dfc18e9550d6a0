import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

/// Parts of mappings that a range cuts, at its ends.
private struct KeptParts {
  var left: Mapping?
  var right: Mapping?
  /// The range with the cut mappings whole.
  var whole: IOVARange
}

extension TrackedContainer {
  /// Removes what is mapped in `range`, which may be larger than that, or hold nothing: its dirt is
  /// in the log when this returns, credited through the mappings that go.
  ///
  /// Where it throws, what is still mapped is still in the table, and dirty.
  func unmap(_ op: inout ContainerOperation, _ range: IOVARange) throws(TrackerError) {
    let range = range.expanded(to: pageSize)
    guard let (mapped, isCut) = hull(of: range) else { return }
    let kept = isCut ? keptParts(mapped) : nil
    guard performsCalls else {
      if op.isTracking { collectAfter(&op, in: mapped, isWatched: false) }
      return try removeUnmapped(&op, mapped)
    }
    guard let kept else { return try unmapWhole(&op, mapped) }
    guard bisectPolicy == .refuse else {
      try checkCut(mapped)
      return try unmapWhole(&op, mapped)
    }
    // The backend removes mappings only as they were made. Between the unmap and the map of the
    // rest no device can write there, so no dirt is missed.
    do throws(TrackerError) {
      try unmapWhole(&op, kept.whole)
    } catch {
      restoreKept(&op, kept)
      throw error
    }
    do throws(TrackerError) {
      try mapAgain(&op, kept.left)
    } catch {
      try? mapAgain(&op, kept.right)
      throw error
    }
    try mapAgain(&op, kept.right)
  }

  /// What the VMM has unmapped already.
  func removeUnmapped(
    _ op: inout ContainerOperation, _ range: IOVARange
  ) throws(TrackerError) {
    try checkCut(range)
    remove(range)
  }

  /// A cut makes a mapping more, for which the table must have room.
  private func checkCut(_ range: IOVARange) throws(TrackerError) {
    let refusal = book.withLock { (book: inout ContainerBook) -> MappingError? in
      do throws(MappingError) {
        try book.table.canUnmap(range)
        return nil
      } catch {
        return error
      }
    }
    if let refusal { throw .mapping(container: name, refusal) }
  }

  /// From the first mapped byte in `range` to the last, and whether the range cuts a mapping; nil
  /// when nothing is mapped there.
  private func hull(of range: IOVARange) -> (mapped: IOVARange, isCut: Bool)? {
    book.withLock { (book: inout ContainerBook) in
      guard let first = book.table.firstMapping(overlapping: range) else { return nil }
      // Mostly one mapping, and all of it.
      let last =
        first.iova.last < range.last
        ? book.table.lastMapping(overlapping: range) ?? first : first
      let mapped = AddressRange(
        first: max(first.iova.first, range.first), last: min(last.iova.last, range.last))
      return (mapped, first.iova.first < mapped.first || last.iova.last > mapped.last)
    }
  }

  private func keptParts(_ range: IOVARange) -> KeptParts? {
    book.withLock { (book: inout ContainerBook) in
      let first = book.table.lookup(range.first)
      let last = book.table.lookup(range.last)
      var kept = KeptParts(whole: range)
      if let first, first.iova.first < range.first {
        let part = AddressRange(first: first.iova.first, last: IOVA(range.first.rawValue &- 1))
        kept.left = first.clipped(to: part)
        kept.whole = AddressRange(first: part.first, last: range.last)
      }
      if let last, last.iova.last > range.last {
        let part = AddressRange(first: IOVA(range.last.rawValue &+ 1), last: last.iova.last)
        kept.right = last.clipped(to: part)
        kept.whole = AddressRange(first: kept.whole.first, last: part.last)
      }
      return kept.left == nil && kept.right == nil ? nil : kept
    }
  }

  /// After an unmap that failed on its way: what it removed may have taken a part along that was to
  /// stay.
  private func restoreKept(_ op: inout ContainerOperation, _ kept: KeptParts) {
    for case let part? in [kept.left, kept.right] {
      let isThere = book.withLock { (book: inout ContainerBook) in
        book.table.firstMapping(overlapping: part.iova) != nil
      }
      guard !isThere else { continue }
      do throws(TrackerError) { try mapAgain(&op, part) } catch { op.notes.append("\(error)") }
    }
  }

  private func mapAgain(_ op: inout ContainerOperation, _ part: Mapping?) throws(TrackerError) {
    guard let part else { return }
    // It was mapped before, so there is one piece of memory behind it, or none of this process.
    let request = MapRequest(
      iova: part.iova, gpaFirst: part.gpaFirst,
      hvaFirst: settings.memory.hva(behind: part.gpa) ?? nil,
      permissions: part.permissions)
    do throws(TrackerError) {
      try map(&op, request)
    } catch .mapFailed(let error) {
      throw .keptPartLost(part.iova, error)
    }
  }

  /// A range that cuts no mapping, or of a backend that does not mind.
  private func unmapWhole(
    _ op: inout ContainerOperation, _ range: IOVARange
  ) throws(TrackerError) {
    guard op.isTracking, !settings.omitting.contains(.unmap) else {
      try unmapPlainly(&op, range)
      return remove(range)
    }
    let hasOwnLog = op.logs.contains {
      $0.mode == .logging && !$0.capabilities.isAskedAfterUnmap
    }
    guard hasOwnLog, op.capabilities.hasAtomicUnmap, !op.isEverythingMapped else {
      return try unmapInSteps(&op, range, hasOwnLog: hasOwnLog)
    }
    let plan = UnmapPlan(op.capabilities, pageSize: pageSize)
    var steps: [QueryPlan.Step] = []
    book.withLock { (book: inout ContainerBook) in
      plan.forEach(book.table, in: range) { steps.append($0) }
    }
    if steps.count > 1, case .window(let chunk) = steps[0], !hasRoom(toCut: chunk) {
      op.notes.append("\(name): IOVA \(range) was unmapped in one piece: its table is full")
      try unmapPlainly(&op, range)
      assumeWritten(&op, in: range, .report(.conservative(id)))
      return remove(range)
    }
    // Each chunk is gone as a whole, from backend and table, before the next: when one fails, the
    // table says what is true.
    for step in steps {
      switch step {
      case .window(let chunk): try unmapAtomically(&op, chunk)
      case .unqueryable(let part, let reason):
        op.notes.append("\(name): IOVA \(part) was unmapped without its bitmap: \(reason)")
        try unmapPlainly(&op, part)
        assumeWritten(&op, in: part, .report(.conservative(id)))
        remove(part)
      }
    }
  }

  /// A chunk from the middle of a mapping leaves two parts for a while.
  private func hasRoom(toCut chunk: IOVARange) -> Bool {
    do throws(TrackerError) { try checkCut(chunk) } catch { return false }
    return true
  }

  private func unmapAtomically(
    _ op: inout ContainerOperation, _ chunk: IOVARange
  ) throws(TrackerError) {
    var isWatched = prepareBitmap(&op, chunk, pageSize)
    if isWatched {
      op.callCount &+= 1
      do throws(ContainerError) {
        try backend.unmap(reportingInto: &op.bitmap)
        answered(.unmapWithDirty, op.bitmap)
        scatter(&op, .report(.unmap(id)))
      } catch {
        answered(.unmapWithDirty, range: chunk, error: error)
        isWatched = false
        op.notes.append("\(error); it was unmapped without, and is marked dirty")
      }
    }
    if !isWatched { try unmapPlainly(&op, chunk) }
    collectAfter(&op, in: chunk, isWatched: isWatched)
    remove(chunk)
  }

  /// Where no call both unmaps and reports.
  private func unmapInSteps(
    _ op: inout ContainerOperation, _ range: IOVARange, hasOwnLog: Bool
  ) throws(TrackerError) {
    let asksFirst = hasOwnLog && settings.policy.twoStepUnmap == .trustGuest
    if asksFirst, !op.isEverythingMapped {
      for index in op.logs.indices
      where op.logs[index].mode == .logging && !op.logs[index].capabilities.isAskedAfterUnmap {
        let clear = !op.logs[index].capabilities.canPeek
        query(
          &op, log: index, in: range, QueryUse(fate: .report(.unmap(id)), clear: clear))
      }
    }
    try unmapPlainly(&op, range)
    collectAfter(&op, in: range, isWatched: !hasOwnLog || asksFirst)
    remove(range)
  }

  /// What is known once the range is unmapped, its mappings still in the table.
  /// - Parameter isWatched: the logs that had to be asked before were.
  func collectAfter(_ op: inout ContainerOperation, in range: IOVARange, isWatched: Bool) {
    guard !settings.omitting.contains(.unmap) else { return }
    guard isWatched, !op.isEverythingMapped else {
      return assumeWritten(&op, in: range, .report(.conservative(id)))
    }
    for index in op.logs.indices
    where op.logs[index].mode == .logging && op.logs[index].capabilities.isAskedAfterUnmap {
      query(&op, log: index, in: range, QueryUse(fate: .report(.unmap(id))))
    }
  }

  /// On failure everything mapped writable there is marked, and stays mapped.
  private func unmapPlainly(
    _ op: inout ContainerOperation, _ range: IOVARange
  ) throws(TrackerError) {
    op.callCount &+= 1
    do throws(ContainerError) {
      try backend.unmap(range)
    } catch {
      answered(.unmap, range: range, error: error)
      // iommufd finds nothing there once an earlier unmap has failed half way. Without one it means
      // that the backend holds other mappings than the table, and nothing was removed.
      let isGone =
        error.errno == ContainerErrno.enoent && !error.isPartial && op.hasPartialUnmap
      if isGone || (error.isPartial && hasUnmappedRest(&op, range)) {
        op.notes.append("\(error); nothing is left of it, and it is marked dirty")
        if op.isTracking { assumeWritten(&op, in: range, .report(.conservative(id))) }
        return
      }
      if op.isTracking {
        assumeWritten(&op, in: range, .report(.conservative(id)))
        if error.isPartial { distrustWalks(&op) }
      }
      if error.isPartial { op.hasPartialUnmap = true }
      throw .unmapFailed(error)
    }
  }

  /// A second try, after one that failed half way.
  private func hasUnmappedRest(_ op: inout ContainerOperation, _ range: IOVARange) -> Bool {
    op.callCount &+= 1
    do throws(ContainerError) {
      try backend.unmap(range)
      return true
    } catch {
      answered(.unmap, range: range, error: error)
      return error.errno == ContainerErrno.enoent && !error.isPartial
    }
  }

  /// After half an unmap the backend may have holes the table does not know of, at which a log that
  /// can not cross them would end its answers.
  private func distrustWalks(_ op: inout ContainerOperation) {
    for index in op.logs.indices
    where op.logs[index].mode == .logging && !op.logs[index].capabilities.mayCrossHoles {
      stop(&op, log: index)
      op.logs[index].mode = .everythingMapped
    }
    publish(op)
  }

  func remove(_ range: IOVARange) {
    book.withLock { (book: inout ContainerBook) in
      // Whole pages of a table that may be cut, with room for the cut.
      do throws(MappingError) {
        try book.table.unmap(range)
      } catch {
        preconditionFailure("container \(name): \(error)")
      }
    }
  }
}
