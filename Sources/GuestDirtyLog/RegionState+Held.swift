import PageBitmap

/// Pages held back for stop-and-copy, by holder.
extension RegionState {
  func heldPages(of holder: HolderID) -> HeldPages? {
    for held in held where held.holder == holder { return held }
    return nil
  }

  /// Where pages found now are held; nil when there is no memory for it.
  mutating func heldNext(of holder: HolderID) -> Pages? {
    let entry = heldPages(of: holder) ?? HeldPages(holder: holder)
    if entry.next == nil {
      entry.next = entry.spare
      entry.spare = nil
    }
    if entry.next == nil { entry.next = try? cleanPages() }
    if heldPages(of: holder) == nil { held.append(entry) }
    return entry.next
  }

  /// What was found becomes what is held; what was held is to be released.
  mutating func settle(_ holder: HolderID) {
    guard let entry = heldPages(of: holder) else { return }
    if let left = entry.releasing {
      // A walk was given up: what it had left goes with what is held.
      if let current = entry.current {
        _ = current.bits.formUnion(left.bits)
      } else {
        entry.current = left
      }
    }
    entry.releasing = entry.current
    entry.current = entry.next
    entry.next = nil
  }

  /// Puts what is to be released, and is not held again, into the log.
  mutating func release(
    _ holder: HolderID, blocks: Range<Int>, by source: DirtySource, at place: JournalPlace
  ) -> MarkCount {
    guard let entry = heldPages(of: holder), let releasing = entry.releasing else {
      return MarkCount()
    }
    var count = MarkCount()
    let kept = entry.current
    let reachesLog = !shares.isEmpty
    releasing.bits.forEachDirtyWord(blocks: blocks) { index, bits in
      let free = bits & ~(kept?.bits.word(index) ?? 0)
      count.dirtyPages &+= UInt64(free.nonzeroBitCount)
      // 512 words a block. What the copy of a replay has already is not put in again.
      let block = index / Int(PageBitmap.pagesPerBlock / 64)
      let isCopied = block < copied.count && place < copied[block]
      if reachesLog, !isCopied { count.newlyDirtyPages &+= main.formUnion(word: index, free) }
    }
    let pages = pages(in: blocks)
    if !pages.isEmpty {
      releasing.bits.remove(first: pages.lowerBound, last: pages.upperBound &- 1)
    }
    counts.add(count.newlyDirtyPages, by: source)
    return count
  }

  /// - Returns: what is to be freed.
  mutating func finishRelease(_ holder: HolderID) -> [Pages] {
    guard let entry = heldPages(of: holder) else { return [] }
    if entry.current == nil && entry.next == nil { return dropHeld(holder) }
    guard let released = entry.releasing else { return [] }
    entry.releasing = nil
    let old = entry.spare
    entry.spare = released
    return old.map { [$0] } ?? []
  }

  /// - Returns: what is to be freed.
  mutating func dropHeld(_ holder: HolderID) -> [Pages] {
    guard let entry = heldPages(of: holder) else { return [] }
    held.removeAll { $0 === entry }
    return [entry.current, entry.next, entry.releasing, entry.spare].compactMap { $0 }
  }

  /// Pages held by holders that count when one alone holds any; nil when they have to be compared.
  func heldCountOfOne(_ counts: (HolderID) -> Bool) -> UInt64? {
    let sets = held.filter { counts($0.holder) }.compactMap(\.current)
    return sets.count > 1 ? nil : sets.first?.bits.dirtyCount ?? 0
  }

  /// Pages of the blocks held by holders that count, each once.
  func heldCount(blocks: Range<Int>, _ counts: (HolderID) -> Bool) -> UInt64 {
    var count: UInt64 = 0
    let held = held.filter { counts($0.holder) }
    for (position, entry) in held.enumerated() {
      let earlier = held[..<position]
      entry.current?.bits.forEachDirtyWord(blocks: blocks) { index, bits in
        var fresh = bits
        for other in earlier { fresh &= ~(other.current?.bits.word(index) ?? 0) }
        count &+= UInt64(fresh.nonzeroBitCount)
      }
    }
    return count
  }
}
