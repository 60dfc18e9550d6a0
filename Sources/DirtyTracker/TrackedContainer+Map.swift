import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking

extension TrackedContainer {
  /// Maps, for a caller inside an operation. What is mapped so already stays; other mappings there
  /// go first, with their dirt.
  func map(_ op: inout ContainerOperation, _ request: MapRequest) throws(TrackerError) {
    switch insert(request) {
    case nil: break
    case .overlap?:
      guard op.hasPartialUnmap || !isMapped(exactly: request) else { return }
      // The map of a live IOVA: the dirt belongs to the page that was behind it until now.
      try unmap(&op, request.iova)
      if let error = insert(request) { throw .mapping(container: name, error) }
    case .some(let error): throw .mapping(container: name, error)
    }
    guard performsCalls else { return }
    op.callCount &+= 1
    do throws(ContainerError) {
      try backend.map(request)
    } catch {
      answered(.map, range: request.iova, error: error)
      try takeBack(&op, request, error)
    }
  }

  private func insert(_ request: MapRequest) -> MappingError? {
    book.withLock { (book: inout ContainerBook) in
      do throws(MappingError) {
        try book.table.map(request.iova, to: request.gpaFirst, permissions: request.permissions)
        return nil
      } catch {
        return error
      }
    }
  }

  private func takeBack(
    _ op: inout ContainerOperation, _ request: MapRequest, _ error: ContainerError
  ) throws(TrackerError) {
    if error.isPartial {
      // Some of it may be mapped, and written.
      op.callCount &+= 1
      _ = try? backend.unmap(request.iova)
      if op.isTracking {
        assumeWritten(&op, in: request.iova, .report(.conservative(id)))
      }
    }
    book.withLock { (book: inout ContainerBook) in _ = try? book.table.unmap(request.iova) }
    throw .mapFailed(error)
  }

  /// Every byte of the request is mapped to the GPA and with the permissions it asks for: by one
  /// mapping or by several.
  private func isMapped(exactly request: MapRequest) -> Bool {
    book.withLock { (book: inout ContainerBook) in
      var next: IOVA? = request.iova.first
      var isSame = true
      book.table.forEach(in: request.iova) { mapping in
        guard isSame, let expected = next else { return }
        let part = mapping.iova.intersection(request.iova) ?? mapping.iova
        let offset = part.first.rawValue &- request.iova.first.rawValue
        isSame =
          part.first == expected && mapping.permissions == request.permissions
          && mapping.translate(part.first) == GPA(request.gpaFirst.rawValue &+ offset)
        next = part.last < request.iova.last ? part.last.advanced(byBytes: 1) : nil
      }
      return isSame && next == nil
    }
  }
}
