public import Addressing
public import GuestDirtyLog
import DMAContainer
import IOVAMapping
import Locking

/// Questions. They change nothing, and wait for no backend.
extension DirtyTracker {
  public var containers: [ContainerDescription] { liveContainers.map { $0.description } }

  /// In IOVA order, unclipped. Empty for a container that is not known. Read some thousands at a
  /// time, so that no map waits for long: what changes meanwhile may or may not be there.
  public func mappings(of id: ContainerID, in range: IOVARange = .wholeSpace) -> [Mapping] {
    guard let tracked = try? container(id) else { return [] }
    var found: [Mapping] = []
    tracked.forEachMapping(in: range) { found.append($0) }
    return found
  }

  public func lookup(_ id: ContainerID, _ iova: IOVA) -> Mapping? {
    guard let tracked = try? container(id) else { return nil }
    return tracked.context.book.withLock { (book: inout ContainerBook) in book.table.lookup(iova) }
  }

  /// What was mapped there just after `generation`, as long as it is remembered.
  public func lookup(_ id: ContainerID, _ iova: IOVA, at generation: Generation) -> Mapping? {
    guard let tracked = try? container(id) else { return nil }
    return tracked.context.book.withLock { (book: inout ContainerBook) in
      book.table.lookup(iova, at: generation)
    }
  }

  /// Every mapping that reaches a page of `gpa`: a scan of all tables, read as above.
  public func mappings(to gpa: GPARange) -> [(ContainerID, Mapping)] {
    var found: [(ContainerID, Mapping)] = []
    for tracked in liveContainers {
      tracked.forEachMapping(in: .wholeSpace) {
        if $0.gpa.overlaps(gpa) { found.append((tracked.id, $0)) }
      }
    }
    return found
  }

  /// How many maps and unmaps a container has seen; 0 for one that is not known.
  public func generation(of id: ContainerID) -> Generation {
    guard let tracked = try? container(id) else { return Generation(0) }
    return tracked.context.book.withLock { (book: inout ContainerBook) in book.table.generation }
  }
}

extension TrackedContainer {
  var description: ContainerDescription {
    context.book.withLock { (book: inout ContainerBook) in
      ContainerDescription(
        id: id, name: name, ownership: context.ownership,
        addressSpace: book.published.addressSpace, scopes: book.published.scopes,
        isTracking: book.published.isTracking, mappingCount: book.table.count,
        mappedPageCount: book.table.mappedPageCount,
        writablePageCount: book.table.writablePageCount,
        retiredMappingCount: book.table.retiredCount, generation: book.table.generation)
    }
  }

  /// A batch of mappings at a time, with the table free in between.
  fileprivate func forEachMapping(in range: IOVARange, _ body: (Mapping) -> Void) {
    var from: IOVA? = range.first
    var batch: [Mapping] = []
    while let first = from {
      batch.removeAll(keepingCapacity: true)
      let read = context.book.withLock { (book: inout ContainerBook) in
        book.table.copyMappings(
          from: first, through: range.last, into: &batch,
          countMax: ContainerState.mappingBatchCount)
      }
      for mapping in batch { body(mapping) }
      from = nil
      if read == ContainerState.mappingBatchCount, let last = batch.last?.iova.last,
        last < range.last
      {
        from = last.advanced(byBytes: 1)
      }
    }
  }

  /// Why this container stands in the way of a migration. As of its last start or attachment, and
  /// of its table now: the backend is not asked.
  func blockers() -> [String] {
    var found: [String] = []
    let logs = context.book.withLock { (book: inout ContainerBook) in book.published.logs }
    for log in logs where log.scope != .everythingMapped && !log.mayCutMapping {
      // A device log, which is left out here, asks by range and cuts where it likes.
      let preferred = context.settings.policy.pageSize
      let pageSize =
        log.pageSizes.contains(preferred) ? preferred : log.pageSizes.smallest ?? preferred
      let plan = QueryPlan(log, pageSize: pageSize)
      var from: IOVA? = IOVA(0)
      while let first = from, found.count < TrackerNotes.countMax {
        let step = context.book.withLock { (book: inout ContainerBook) in
          plan.firstStep(
            book.table, from: first, through: IOVARange.wholeSpace.last,
            mappingCountMax: ContainerState.mappingBatchCount)
        }
        from = step.next
        guard case .unqueryable(let part, let reason)? = step.step else { continue }
        found.append(
          "container \(name): the dirty pages of IOVA \(part) cannot be asked for: \(reason)")
      }
    }
    return found
  }
}
