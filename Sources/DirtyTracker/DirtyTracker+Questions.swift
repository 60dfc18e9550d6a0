public import Addressing
public import GuestDirtyLog
import IOVAMapping
import Locking

/// Questions. They change nothing, and wait for no backend.
extension DirtyTracker {
  public var containers: [ContainerDescription] { liveContainers.map { $0.description } }

  /// In IOVA order, unclipped. Empty for a container that is not known.
  public func mappings(of id: ContainerID, in range: IOVARange = .wholeSpace) -> [Mapping] {
    guard let tracked = try? container(id) else { return [] }
    return tracked.book.withLock { (book: inout ContainerBook) in
      var found: [Mapping] = []
      book.table.forEach(in: range) { found.append($0) }
      return found
    }
  }

  public func lookup(_ id: ContainerID, _ iova: IOVA) -> Mapping? {
    guard let tracked = try? container(id) else { return nil }
    return tracked.book.withLock { (book: inout ContainerBook) in book.table.lookup(iova) }
  }

  /// What was mapped there just after `generation`, as long as it is remembered.
  public func lookup(_ id: ContainerID, _ iova: IOVA, at generation: Generation) -> Mapping? {
    guard let tracked = try? container(id) else { return nil }
    return tracked.book.withLock { (book: inout ContainerBook) in
      book.table.lookup(iova, at: generation)
    }
  }

  /// Every mapping that reaches a page of `gpa`: a scan of all tables.
  public func mappings(to gpa: GPARange) -> [(ContainerID, Mapping)] {
    liveContainers.flatMap { tracked in
      tracked.book.withLock { (book: inout ContainerBook) in book.table.mappings(to: gpa) }
        .map { (tracked.id, $0) }
    }
  }

  /// How many maps and unmaps a container has seen; 0 for one that is not known.
  public func generation(of id: ContainerID) -> Generation {
    guard let tracked = try? container(id) else { return Generation(0) }
    return tracked.book.withLock { (book: inout ContainerBook) in book.table.generation }
  }
}

extension TrackedContainer {
  var description: ContainerDescription {
    book.withLock { (book: inout ContainerBook) in
      ContainerDescription(
        id: id, name: name, ownership: ownership, addressSpace: book.addressSpace,
        scopes: book.scopes, isTracking: book.isTracking, mappingCount: book.table.count,
        mappedPageCount: book.table.mappedPageCount,
        writablePageCount: book.table.writablePageCount,
        retiredMappingCount: book.table.retiredCount, generation: book.table.generation)
    }
  }
}
