import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking

extension ContainerState {
  /// Maps, for a caller inside an operation. What is mapped so already stays; other mappings there
  /// go first, with their dirt.
  /// - Parameter isToldAhead: the VMM that owns the container has not mapped it yet.
  mutating func map(
    _ request: MapRequest, isToldAhead: Bool = true
  ) throws(TrackerError) {
    var isRemap = false
    if let error = insert(request) {
      guard hasPartialUnmap || !isMapped(exactly: request) else { return }
      // A full table has room for a remap that takes no more of it than there is now.
      guard case .fits(let replacesOther) = room(for: request, error) else {
        return try refuse(request, error)
      }
      isRemap = replacesOther
      // The map of a live IOVA: the dirt belongs to the page that was behind it until now.
      try unmap(request.iova)
      if let error = insert(request) { return try refuse(request, error) }
    }
    if context.performsCalls {
      counts.mappingCalls &+= 1
      do throws(ContainerError) {
        try context.backend.map(request)
        answeredClean()
      } catch {
        answered(.map, range: request.iova, error: error)
        try takeBack(request, error, isRemap: isRemap)
      }
    }
    let isBehindSync = isInFinalSync && settings.pace.planted != .finalMapMarksNothing
    if isTracking, isBehindSync || (!context.performsCalls && !isToldAhead) {
      // A final sync does not come back to what is mapped behind its place; and a mapping that is
      // told late may have been written, with its bit asked for and dropped before the table knew.
      markNew(request)
    }
  }

  private enum Room {
    case fits(replacesOther: Bool)
    case no
  }

  /// Whether the request fits once what is mapped there has gone. Known before anything changes.
  private func room(for request: MapRequest, _ error: MappingError) -> Room {
    switch error {
    case .overlap, .tooManyMappings: break
    default: return .no
    }
    return context.book.withLock { (book: inout ContainerBook) in
      guard let first = book.table.firstMapping(overlapping: request.iova),
        let last = book.table.lastMapping(overlapping: request.iova)
      else { return .no }
      let cutsFirst = first.iova.first < request.iova.first
      let cutsLast = last.iova.last > request.iova.last
      // The request, and the parts of one mapping that it cuts in two; less what it replaces.
      var change = 1
      if first.iova == last.iova {
        change += cutsFirst && cutsLast ? 1 : (cutsFirst || cutsLast ? 0 : -1)
      } else if !cutsFirst || !cutsLast || hasMapping(between: first, last, &book) {
        change -= 1
      }
      return book.table.count + change <= book.table.mappingCountMax
        ? .fits(replacesOther: true) : .no
    }
  }

  private func hasMapping(
    between first: Mapping, _ last: Mapping, _ book: inout ContainerBook
  ) -> Bool {
    guard let from = first.iova.last.advanced(byBytes: 1), last.iova.first > from else {
      return false
    }
    let gap = AddressRange(first: from, last: IOVA(last.iova.first.rawValue &- 1))
    return book.table.firstMapping(overlapping: gap) != nil
  }

  private mutating func markNew(_ request: MapRequest) {
    guard request.permissions.contains(.write),
      let last = request.gpaFirst.advanced(byBytes: request.iova.lastOffset)
    else { return }
    counts.marked += log.mark(
      AddressRange(first: request.gpaFirst, last: last), by: .conservative(id), at: place)
  }

  private mutating func insert(_ request: MapRequest) -> MappingError? {
    copy?.note(request.iova)
    return context.book.withLock { (book: inout ContainerBook) in
      do throws(MappingError) {
        try book.table.map(request.iova, to: request.gpaFirst, permissions: request.permissions)
        return nil
      } catch {
        return error
      }
    }
  }

  /// The table has no place for the mapping. A VMM that owns its container has it all the same, so
  /// from here on nobody knows what its devices write.
  private mutating func refuse(
    _ request: MapRequest, _ error: MappingError
  ) throws(TrackerError) {
    if !context.performsCalls { distrustTable("IOVA \(request.iova) is mapped and has no place") }
    throw .mapping(container: name, error)
  }

  private mutating func takeBack(
    _ request: MapRequest, _ error: ContainerError, isRemap: Bool
  ) throws(TrackerError) {
    if error.isPartial {
      // Some of it may be mapped, and written.
      counts.mappingCalls &+= 1
      do throws(ContainerError) {
        try context.backend.unmap(request.iova)
        answeredClean()
      } catch let second {
        answered(.unmap, range: request.iova, error: second)
        if second.errno != ContainerErrno.enoent || second.isPartial {
          // Devices may go on writing there: the mapping stays known, so that its dirt is.
          if isTracking { assumeWritten(in: request.iova, .report(.conservative(id))) }
          hasPartialUnmap = true
          if isTracking { distrustWalks() }
          throw .mapNotTakenBack(request.iova, error, second)
        }
      }
      if isTracking { assumeWritten(in: request.iova, .report(.conservative(id))) }
    }
    remove(request.iova)
    throw isRemap ? .remapFailed(request.iova, error) : .mapFailed(error)
  }

  /// Every byte of the request is mapped to the GPA and with the permissions it asks for: by one
  /// mapping or by several.
  private func isMapped(exactly request: MapRequest) -> Bool {
    let staleRAM = staleRAM
    return context.book.withLock { (book: inout ContainerBook) in
      var next: IOVA? = request.iova.first
      var isSame = true
      book.table.forEach(in: request.iova) { mapping in
        guard isSame, let expected = next else { return }
        let part = mapping.iova.intersection(request.iova) ?? mapping.iova
        let offset = part.first.rawValue &- request.iova.first.rawValue
        isSame =
          part.first == expected && mapping.permissions == request.permissions
          && mapping.translate(part.first) == GPA(request.gpaFirst.rawValue &+ offset)
          && !staleRAM.contains {
            $0.gpa.overlaps(mapping.gpa) && mapping.generation <= $0.generation
          }
        next = part.last < request.iova.last ? part.last.advanced(byBytes: 1) : nil
      }
      return isSame && next == nil
    }
  }
}
