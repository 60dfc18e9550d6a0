public import Addressing
import EventTrace
public import GuestDirtyLog
import IOVAMapping
import Locking

/// Writes told by whoever made them.
extension DirtyTracker {
  /// A device in user space, or a driver that knows, wrote to `iova`.
  ///
  /// Credited through the table as it stands, and where nothing is mapped now through what was last
  /// mapped there. A device that may be late states the generation its translation was taken at
  /// (see ``generation(of:)``): then everything that was mapped there since is credited as well.
  /// What is no longer known makes all RAM dirty.
  public func deviceWrote(_ id: ContainerID, _ iova: IOVARange, since generation: Generation? = nil)
  {
    record(.deviceWrote(container: id.rawValue, iova: iova, since: generation))
    // The only error is that there is no such container.
    guard let tracked = try? container(id) else {
      log.markEverything(by: .conservative(nil))
      return note("\(id) wrote to IOVA \(iova) and is not known; every page is marked dirty")
    }
    let isKnown = tracked.context.book.withLock { (book: inout ContainerBook) in
      tracked.credit(iova, since: generation, book.table)
    }
    guard !isKnown else { return }
    log.markEverything(by: .conservative(id))
    note(
      "container \(tracked.name) wrote to IOVA \(iova), whose mapping is forgotten; every page is"
        + " marked dirty")
  }

  /// A vCPU wrote, or the VMM for it.
  public func vcpuWrote(_ range: GPARange) {
    log.mark(range, by: .vcpu)
  }

  func note(_ sentence: String) { notes.withLock { $0.append(sentence) } }
}

extension TrackedContainer {
  /// - Returns: false when what was mapped there may have been forgotten.
  fileprivate func credit(
    _ range: IOVARange, since generation: Generation?, _ table: borrowing MappingTable
  ) -> Bool {
    var mappedThrough: UInt64?
    var isAllMapped = true
    table.forEach(in: range) { mapping in
      let part = mapping.iova.intersection(range) ?? range
      let expected = mappedThrough.map { $0 &+ 1 } ?? range.first.rawValue
      if part.first.rawValue != expected { isAllMapped = false }
      mappedThrough = part.last.rawValue
      mark(mapping, range)
    }
    if mappedThrough != range.last.rawValue { isAllMapped = false }
    if isAllMapped, generation == nil { return true }
    // What was last mapped there is enough unless the caller says since when it may have written.
    var isCovered = false
    let isComplete = table.retired(since: generation ?? Generation(0), overlapping: range) {
      mark($0.mapping, range)
      if $0.mapping.iova.contains(range) { isCovered = true }
    }
    return isComplete || (generation == nil && isCovered)
  }

  private func mark(_ mapping: Mapping, _ range: IOVARange) {
    guard mapping.isWritable, let part = mapping.clipped(to: range) else { return }
    context.log.mark(part.gpa, by: .deviceQuery(id))
  }
}
