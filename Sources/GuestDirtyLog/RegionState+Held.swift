import PageBitmap

/// Pages held back for stop-and-copy, by container.
extension RegionState {
  func heldPages(of container: ContainerID) -> HeldPages? {
    for held in held where held.container == container { return held }
    return nil
  }

  /// Where pages found now are held; nil when there is no memory for it.
  mutating func heldNext(of container: ContainerID) -> Pages? {
    let entry = heldPages(of: container) ?? HeldPages(container: container)
    if entry.next == nil {
      entry.next = entry.spare
      entry.spare = nil
    }
    if entry.next == nil { entry.next = try? cleanPages() }
    if heldPages(of: container) == nil { held.append(entry) }
    return entry.next
  }

  /// What was found becomes what is held; what was held is to be released.
  mutating func settle(_ container: ContainerID) {
    guard let entry = heldPages(of: container) else { return }
    entry.releasing = entry.current
    entry.current = entry.next
    entry.next = nil
  }

  /// Puts what is to be released, and is not held again, into the log.
  mutating func release(
    _ container: ContainerID, blocks: Range<Int>, by source: DirtySource
  ) -> MarkCount {
    guard let entry = heldPages(of: container), let releasing = entry.releasing else {
      return MarkCount()
    }
    var count = MarkCount()
    let kept = entry.current
    let reachesLog = !shares.isEmpty
    releasing.bits.forEachDirtyWord(blocks: blocks) { index, bits in
      let free = bits & ~(kept?.bits.word(index) ?? 0)
      count.dirtyPages &+= UInt64(free.nonzeroBitCount)
      if reachesLog { count.newlyDirtyPages &+= main.formUnion(word: index, free) }
    }
    let first = UInt64(blocks.lowerBound) &* PageBitmap.pagesPerBlock
    let end = min(UInt64(blocks.upperBound) &* PageBitmap.pagesPerBlock, main.pageCount)
    if first < end { releasing.bits.remove(first: first, last: end &- 1) }
    counts.add(count.newlyDirtyPages, by: source)
    return count
  }

  mutating func finishRelease(_ container: ContainerID) {
    guard let entry = heldPages(of: container) else { return }
    if entry.releasing != nil { entry.spare = entry.releasing }
    entry.releasing = nil
    if entry.current == nil && entry.next == nil { dropHeld(container) }
  }

  mutating func dropHeld(_ container: ContainerID) {
    held.removeAll { $0.container == container }
  }

  /// Pages held by any container.
  var heldCount: UInt64 {
    var count: UInt64 = 0
    for (position, entry) in held.enumerated() {
      guard let current = entry.current else { continue }
      let earlier = held[..<position]
      if earlier.isEmpty {
        count &+= current.bits.dirtyCount
        continue
      }
      current.bits.forEachDirtyWord(blocks: 0..<current.bits.blockCount) { index, bits in
        var fresh = bits
        for other in earlier { fresh &= ~(other.current?.bits.word(index) ?? 0) }
        count &+= UInt64(fresh.nonzeroBitCount)
      }
    }
    return count
  }
}
