import Addressing
import DMAContainer
import IOVAMapping
import Locking
import PageBitmap

/// Dirt that belongs to nothing this tracker knows: bits of an answer at IOVAs where the table has
/// no mapping. A VMM that drives its own container may have mapped what it has not told yet.
///
/// Such a bit has no page to mark. What it belongs to is dirty all the same once it is told: a map
/// that comes late counts as written as a whole. So nothing is lost as long as it *is* told, and
/// that it was not yet is said: in the sync's report, and once for each container in a note with
/// the first such IOVA. What was never told, and comes with the bitmap of an unmap, is lost, and
/// the note says that.
///
/// What is counted: pages whose whole granule lies where nothing is mapped, within the windows that
/// are asked for; those reach from the first to the last mapping, or less where a log may not be
/// asked across holes. A granule that a mapping reaches into is answered as a piece, and its bits
/// beside the mapping are rounding. Bits under a mapping that may not be written are not counted:
/// the table knows what is there.
///
/// A container that the tracker drives has no mapping that the table lacks, so its answers are not
/// looked through, and its syncs cost what they did.
struct UnknownDirt {
  /// Of 4 KiB, or the page size of the dirty log.
  var pageCount: UInt64 = 0
  var first: IOVA?

  fileprivate mutating func add(_ run: IOVARange, _ pageSize: PageSize) {
    pageCount &+= run.pageCount(pageSize)
    first = first ?? run.first
  }
}

extension ContainerState {
  /// Of the answer to a query. Before the scatter, which consumes it.
  mutating func countUnknown(granule: PageSize) {
    guard let window = bitmap.window else { return }
    let found = context.unknownDirt(in: bitmap, window, granule: granule)
    note(found, "what is mapped there and told later counts as written")
  }

  /// Of the bitmap that a VMM's unmap of `range` returned.
  mutating func countUnknown(in answer: borrowing QueryBitmap, unmapped range: IOVARange) {
    let found = context.unknownDirt(in: answer, range, granule: pageSize)
    note(found, "it was unmapped, and which page it was is not known")
  }

  private mutating func note(_ found: UnknownDirt, _ consequence: String) {
    guard let first = found.first else { return }
    counts.unknownPages &+= found.pageCount
    guard !hasNotedUnknown else { return }
    hasNotedUnknown = true
    notes.append(
      "\(name): dirty at IOVA \(first), where nothing is mapped as far as the tracker was told; "
        + consequence)
  }
}

extension ContainerContext {
  fileprivate func unknownDirt(
    in answer: borrowing QueryBitmap, _ range: IOVARange, granule: PageSize
  ) -> UnknownDirt {
    var found = UnknownDirt()
    guard !performsCalls, !answer.isClear else { return found }
    var walk = MappingWalk(range)
    var holeFirst: IOVA? = range.first
    var batch: [Mapping] = []
    while readRuns(&walk, into: &batch) {
      for run in batch {
        if let first = holeFirst, first < run.iova.first {
          // Below a mapping that begins above the hole's first address.
          let last = IOVA(run.iova.first.rawValue - 1)
          collect(AddressRange(first: first, last: last), answer, granule, into: &found)
        }
        holeFirst = run.iova.last.advanced(byBytes: 1)
      }
    }
    if let first = holeFirst, first <= range.last {
      collect(AddressRange(first: first, last: range.last), answer, granule, into: &found)
    }
    return found
  }

  private func readRuns(_ walk: inout MappingWalk, into batch: inout [Mapping]) -> Bool {
    book.withLock { (book: inout ContainerBook) in
      walk.nextRuns(book.table, into: &batch, countMax: ContainerState.mappingBatchCount) != nil
    }
  }

  private func collect(
    _ hole: IOVARange, _ answer: borrowing QueryBitmap, _ granule: PageSize,
    into found: inout UnknownDirt
  ) {
    // Whole granules of it.
    let mask = granule.offsetMask
    guard let first = hole.first.advanced(byBytes: (0 &- hole.first.rawValue) & mask) else {
      return
    }
    let isWhole = hole.last.rawValue & mask == mask
    let end = isWhole ? hole.last.rawValue : (hole.last.rawValue & ~mask) &- 1
    guard isWhole || hole.last.rawValue > mask, first.rawValue <= end else { return }
    var from: IOVA? = first
    while let next = from, let run = answer.nextDirtyRun(from: next, through: IOVA(end)) {
      found.add(run, settings.policy.pageSize)
      from = run.last.rawValue < end ? run.last.advanced(byBytes: 1) : nil
    }
  }
}
