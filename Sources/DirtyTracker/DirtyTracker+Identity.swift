import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking

/// Containers that no vIOMMU translates for: RAM is mapped 1:1, one piece an operation.
extension DirtyTracker {
  /// Maps populated RAM of `range`.
  /// - Throws: when a piece cannot be mapped; those before it stay, for the caller to take back.
  func mapRAM(_ tracked: TrackedContainer, in range: GPARange) throws(TrackerError) {
    let requests = tracked.operation.withStep { (state: inout ContainerState) in
      state.planRAM(in: range)
    }
    for request in requests {
      try tracked.operation.withLock { (state: inout ContainerState) throws(TrackerError) in
        guard !state.isRemoved else { throw .unknownContainer(tracked.id) }
        state.beginMap(request, isToldAhead: true)
        try state.map(request)
      }
    }
  }

  /// Takes back mappings that failed work made. A device may have written through them, so they
  /// are marked once they are gone, whether anything is tracked or not.
  /// - Returns: why some of them are still mapped; those stay in the table, and tracked.
  func undo(_ tracked: TrackedContainer, _ range: IOVARange) -> TrackerError? {
    var writable: [GPARange] = []
    tracked.context.book.withLock { (book: inout ContainerBook) in
      book.table.forEach(in: range) { if $0.isWritable { writable.append($0.gpa) } }
    }
    var failure: TrackerError?
    do throws(TrackerError) { try unmapInPieces(tracked, range) } catch { failure = error }
    for gpa in writable { log.mark(gpa, by: .conservative(tracked.id)) }
    return failure
  }

  func unmapIdentity(_ range: GPARange) throws(TrackerError) {
    let iova = AddressRange(first: IOVA(range.first.rawValue), last: IOVA(range.last.rawValue))
    try forEachIdentity { tracked throws(TrackerError) in try unmapInPieces(tracked, iova) }
  }

  /// Every identity container, also after one of them failed; then the first failure.
  func forEachIdentity(
    _ body: (TrackedContainer) throws(TrackerError) -> Void
  ) throws(TrackerError) {
    var first: TrackerError?
    for tracked in liveContainers {
      let isIdentity = tracked.operation.withStep { (state: inout ContainerState) in
        !state.isRemoved && state.addressSpace == .identity
      }
      guard isIdentity else { continue }
      do throws(TrackerError) { try body(tracked) } catch { first = first ?? error }
    }
    if let first { throw first }
  }
}
