import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

/// What becomes of pages found dirty.
enum DirtyFate: Sendable {
  case report(DirtySource)
  /// Dirty in every round: for the final sync.
  case holdBack
}

extension ContainerState {
  /// Credits the bitmap to the pages behind it, through the table as it stands. Consumes the
  /// bitmap.
  mutating func scatter(_ fate: DirtyFate) {
    guard let window = bitmap.window, !bitmap.isClear else { return }
    var walk = MappingWalk(window)
    while nextBatch(&walk, fate) {
      switch fate {
      case .report(let source):
        let found = log.scatter(
          bitmap, through: mappings.span, by: source, mappingsLead: walk.mappingsLead,
          at: place)
        counts.marked += found
      case .holdBack:
        let found = log.holdBack(
          bitmap, through: mappings.span, for: holder, mappingsLead: walk.mappingsLead)
        counts.heldBackPages &+= found.dirtyPages
      }
      if let next = walk.from { bitmap.forget(before: next) }
    }
  }

  private mutating func nextBatch(_ walk: inout MappingWalk, _ fate: DirtyFate) -> Bool {
    // Apart from the state, while its answer is worked on.
    var batch: [Mapping] = []
    swap(&batch, &mappings)
    defer { swap(&batch, &mappings) }
    let countMax = Self.mappingBatchCount
    let (context, log, holder, place) = (context, log, holder, place)
    var moved = MarkCount()
    let isThere = context.book.withLock { (book: inout ContainerBook) in
      walk.next(book.table, under: &bitmap, into: &batch, countMax: countMax) { answer, leaves in
        let (count, left) =
          switch fate {
          case .report(let source): log.moveLines(&answer, through: leaves, by: source, at: place)
          case .holdBack: log.moveLinesToHeldBack(&answer, through: leaves, for: holder)
          }
        moved += count
        return left
      }
    }
    switch fate {
    case .report: counts.marked += moved
    case .holdBack: counts.heldBackPages &+= moved.dirtyPages
    }
    return isThere
  }

  /// Clears the bitmap for a window, with more memory where it needs more.
  /// - Returns: false when there is no memory for it.
  mutating func prepareBitmap(_ window: IOVARange, _ pageSize: PageSize) -> Bool {
    guard let needed = QueryBitmap.byteCount(window: window, pageSize: pageSize) else {
      return false
    }
    do {
      if needed > bitmap.byteCountMax {
        let larger = max(needed, min(bitmap.byteCountMax * 2, 1 << 30))
        bitmap = try QueryBitmap(byteCountMax: larger)
      }
      try bitmap.reset(window: window, pageSize: pageSize)
      return true
    } catch {
      notes.append("\(name): no bitmap for IOVA \(window): \(error)")
      return false
    }
  }
}
