import Addressing
import GuestDirtyLog
import PageBitmap

/// Marks for the bitmap of an unmap that removes one mapping and all of it.
struct UnmapCredit {
  let log: GuestDirtyLog
  let id: ContainerID
  let place: JournalPlace

  /// - Parameters:
  ///   - dirty: for just that mapping.
  ///   - batch: used and left with anything in it.
  func give(
    _ dirty: borrowing QueryBitmap, through only: Mapping, _ batch: inout [Mapping]
  ) -> MarkCount {
    if dirty.isClear { return MarkCount() }
    // The usual unmap is of one page.
    if only.iova.lastOffset == log.pageSize.offsetMask {
      return only.isWritable ? log.mark(only.gpa, by: .unmap(id), at: place) : MarkCount()
    }
    batch.removeAll(keepingCapacity: true)
    batch.append(only)
    return log.scatter(dirty, through: batch.span, by: .unmap(id), at: place)
  }
}
