import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

/// What becomes of pages found dirty.
enum DirtyFate {
  case report(DirtySource)
  /// Dirty in every round: for the final sync.
  case holdBack
}

extension TrackedContainer {
  /// Credits the bitmap to the pages behind it, through the table as it stands. What it held is not
  /// to be read after.
  func scatter(_ op: inout ContainerOperation, _ fate: DirtyFate) {
    guard let window = op.bitmap.window, !op.bitmap.isClear else { return }
    var walk = MappingWalk(window)
    while nextBatch(&op, &walk, fate) {
      switch fate {
      case .report(let source):
        let count = log.scatter(
          op.bitmap, through: op.mappings.span, by: source, mappingsLead: walk.mappingsLead)
        op.count += count
      case .holdBack:
        let count = log.holdBack(
          op.bitmap, through: op.mappings.span, for: id, mappingsLead: walk.mappingsLead)
        op.heldBackPages &+= count.dirtyPages
      }
      if let next = walk.from { op.bitmap.forget(before: next) }
    }
  }

  private func nextBatch(
    _ op: inout ContainerOperation, _ walk: inout MappingWalk, _ fate: DirtyFate
  ) -> Bool {
    // Apart from the operation, while its answer is worked on.
    var batch: [Mapping] = []
    swap(&batch, &op.mappings)
    defer { swap(&batch, &op.mappings) }
    let countMax = ContainerOperation.mappingBatchCount
    var moved = MarkCount()
    let isThere = book.withLock { (book: inout ContainerBook) in
      walk.next(book.table, under: &op.bitmap, into: &batch, countMax: countMax) { answer, leaves in
        let (count, left) =
          switch fate {
          case .report(let source): log.moveLines(&answer, through: leaves, by: source)
          case .holdBack: log.moveLinesToHeldBack(&answer, through: leaves, for: id)
          }
        moved += count
        return left
      }
    }
    switch fate {
    case .report: op.count += moved
    case .holdBack: op.heldBackPages &+= moved.dirtyPages
    }
    return isThere
  }

  /// The next mappings of the walk in `op.mappings`, unclipped; what goes on in IOVA and GPA as
  /// one.
  func nextRuns(_ op: inout ContainerOperation, _ walk: inout MappingWalk) -> Bool {
    let countMax = ContainerOperation.mappingBatchCount
    return book.withLock { (book: inout ContainerBook) in
      walk.nextRuns(book.table, into: &op.mappings, countMax: countMax) != nil
    }
  }

  /// Everything mapped writable in `range`, clipped to it, counts as written.
  func assumeWritten(_ op: inout ContainerOperation, in range: IOVARange, _ fate: DirtyFate) {
    switch fate {
    case .report(let source):
      var walk = MappingWalk(range)
      while nextRuns(&op, &walk) {
        for mapping in op.mappings where mapping.isWritable {
          if let part = mapping.clipped(to: range) { op.count += log.mark(part.gpa, by: source) }
        }
      }
    case .holdBack: holdBackAll(&op, in: range)
    }
  }

  /// Conservative, and for good or for the final sync as the caller says.
  func assumeWritten(_ op: inout ContainerOperation, in range: IOVARange, holdBack: Bool) {
    assumeWritten(&op, in: range, holdBack ? .holdBack : .report(.conservative(id)))
  }

  /// The log holds back by bitmap: windows with every bit set, for which no backend is asked.
  private func holdBackAll(_ op: inout ContainerOperation, in range: IOVARange) {
    let everything = DirtyLogCapabilities(
      scope: .everythingMapped, queryBitmapByteCountMax: UInt64(op.bitmap.byteCountMax),
      mayCrossHoles: true, mayCutMapping: true, canPeek: false)
    let plan = QueryPlan(everything, pageSize: settings.policy.pageSize)
    let outer = op.steps
    op.steps = []
    book.withLock { (book: inout ContainerBook) in
      plan.forEach(book.table, in: range) { op.steps.append($0) }
    }
    for step in op.steps {
      guard case .window(let window) = step, prepareBitmap(&op, window, plan.pageSize) else {
        continue
      }
      op.bitmap.insert(window.intersection(range) ?? window)
      scatter(&op, .holdBack)
    }
    op.steps = outer
  }

  /// Clears the bitmap for a window, with more memory where it needs more.
  /// - Returns: false when there is no memory for it.
  func prepareBitmap(
    _ op: inout ContainerOperation, _ window: IOVARange, _ pageSize: PageSize
  ) -> Bool {
    guard let needed = QueryBitmap.byteCount(window: window, pageSize: pageSize) else {
      return false
    }
    do {
      if needed > op.bitmap.byteCountMax {
        let larger = max(needed, min(op.bitmap.byteCountMax * 2, 1 << 30))
        op.bitmap = try QueryBitmap(byteCountMax: larger)
      }
      try op.bitmap.reset(window: window, pageSize: pageSize)
      return true
    } catch {
      op.notes.append("\(name): no bitmap for IOVA \(window): \(error)")
      return false
    }
  }

  /// What questions read of the logs.
  func publish(_ op: borrowing ContainerOperation) {
    let scopes = op.logs.map(\.scope)
    let isTracking = op.isTracking
    let addressSpace = op.addressSpace
    book.withLock { (book: inout ContainerBook) in
      book.scopes = scopes
      book.isTracking = isTracking
      book.addressSpace = addressSpace
    }
  }
}
