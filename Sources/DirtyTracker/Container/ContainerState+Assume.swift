import Addressing
import GuestDirtyLog
import IOVAMapping
import Locking

/// Marks for what no answer is to be had for: everything mapped writable counts as written.
extension ContainerState {
  /// IOVA bytes of a mapping that are marked at a time: 64 GiB, 2 MiB of bits where all is RAM.
  private static let markedByteCount: UInt64 = 64 << 30
  /// Parts of mappings without RAM behind them that one piece steps over.
  private static let partCountMax = 4096

  /// Everything mapped writable in `range`, clipped to it, is marked. For a range whose mappings go
  /// away in the same operation; what is larger and stays is owed instead.
  mutating func assumeWritten(in range: IOVARange, _ fate: DirtyFate) {
    var from: IOVA? = range.first
    while let next = from {
      from = assumeWrittenPiece(from: next, through: range.last, fate, .final)
    }
  }

  /// As much of `from` to `last` as one step may mark.
  ///
  /// Work follows the mappings and the RAM behind them, not the width of the range.
  /// - Returns: where the next piece begins; nil when all of the range is marked.
  mutating func assumeWrittenPiece(
    from: IOVA, through last: IOVA, _ fate: DirtyFate, _ bounds: StepBounds
  ) -> IOVA? {
    let range = AddressRange(first: from, last: last)
    let countMax = max(1, min(Self.mappingBatchCount, bounds.mappingCountMax))
    var batch: [Mapping] = []
    swap(&batch, &mappings)
    defer { swap(&batch, &mappings) }
    batch.removeAll(keepingCapacity: true)
    let read = context.book.withLock { (book: inout ContainerBook) in
      book.table.copyRuns(from: from, through: last, into: &batch, countMax: countMax)
    }
    var (pages, parts) = (UInt64(0), 0)
    for run in batch where run.isWritable {
      guard var rest = run.clipped(to: range) else { continue }
      while true {
        let part = rest.prefix(byteCount: Self.markedByteCount)
        pages &+= mark(part.gpa, fate)
        parts += 1
        guard let next = part.iova.last.advanced(byBytes: 1), next <= rest.iova.last else { break }
        if pages >= bounds.pageCountMax || parts >= Self.partCountMax { return next }
        guard let left = rest.clipped(to: AddressRange(first: next, last: rest.iova.last)) else {
          break
        }
        rest = left
      }
      if pages >= bounds.pageCountMax, let next = run.iova.last.advanced(byBytes: 1) {
        return next <= last ? next : nil
      }
    }
    guard read == countMax, let end = batch.last?.iova.last, end < last else { return nil }
    return end.advanced(byBytes: 1)
  }

  /// All of a mapping, or of a part of one, is marked where it may be written.
  mutating func assumeWritten(_ mapping: Mapping) {
    if mapping.isWritable { _ = mark(mapping.gpa, .report(.conservative(id))) }
  }

  /// - Returns: pages of RAM that were marked or held back.
  private mutating func mark(_ gpa: GPARange, _ fate: DirtyFate) -> UInt64 {
    switch fate {
    case .report(let source):
      let count = log.mark(gpa, by: source, at: place)
      counts.marked += count
      return count.dirtyPages
    case .holdBack:
      let count = log.holdBack(gpa, for: holder)
      counts.heldBackPages &+= count.dirtyPages
      return count.dirtyPages
    }
  }

  /// One piece of what is owed.
  mutating func payOwed(_ bounds: StepBounds) {
    guard let first = owed.ranges.first else { return }
    let next = assumeWrittenPiece(
      from: first.first, through: first.last, .report(.conservative(id)), bounds)
    owed.paid(before: next)
  }
}

extension Mapping {
  /// The first bytes of this mapping, all of it when it has no more.
  fileprivate func prefix(byteCount: UInt64) -> Mapping {
    guard iova.lastOffset >= byteCount,
      let last = iova.first.advanced(byBytes: byteCount &- 1),
      let part = clipped(to: AddressRange(first: iova.first, last: last))
    else { return self }
    return part
  }
}
