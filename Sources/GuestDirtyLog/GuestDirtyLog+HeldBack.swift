public import Addressing
public import PageBitmap
import Locking

/// Held-back pages. Pinned pages are dirty in every round as far as anybody knows; sending them in
/// every round is in vain. What a query of pinned pages finds is held back, round by round; a page
/// that was held and is not found again goes to the log; stop-and-copy releases the rest.
extension GuestDirtyLog {
  /// Notes pages behind the set bits as held by `holder` from the next settling on.
  /// - Returns: the bits that reached RAM, and pages outside of it. None of them is newly dirty.
  @discardableResult
  public func holdBack(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, for holder: HolderID,
    mappingsLead: Bool = false
  ) -> MarkCount {
    spread(
      query, mappings, into: .heldBack(holder), mappingsLead: mappingsLead, at: .none)
  }

  /// Notes every page `range` touches as held by `holder` from the next settling on: as if a
  /// query had found all of them dirty, at the cost of the RAM in the range.
  /// - Returns: the pages that are RAM, and those that are not. Newly dirty are only pages that
  ///   there was no memory to hold back: those are in the log.
  @discardableResult
  public func holdBack(_ range: GPARange, for holder: HolderID) -> MarkCount {
    markPieces(
      first: range.first.rawValue &>> pageSize.shift, last: range.last.rawValue &>> pageSize.shift
    ) { region, first, last in
      region.mark(first: first, last: last, into: .heldBack(holder), at: .none)
    }
  }

  /// Pages held until now and not noted since the last settling go to the log; those noted are
  /// held from now on.
  public func settleHeldBack(for holder: HolderID, by source: DirtySource) -> MarkCount {
    run(HeldBackWalk(releasesAll: false), for: holder, by: source)
  }

  /// All pages held or noted go to the log.
  public func releaseHeldBack(for holder: HolderID, by source: DirtySource) -> MarkCount {
    run(HeldBackWalk(releasesAll: true), for: holder, by: source)
  }

  private func run(
    _ walk: HeldBackWalk, for holder: HolderID, by source: DirtySource
  ) -> MarkCount {
    var walk = walk
    var count = MarkCount()
    while !walk.isDone {
      count += goOn(&walk, blockCountMax: .max, for: holder, by: source, at: .ofItsOwn)
    }
    return count
  }

  /// One piece of a settling, or of a release of everything: so many blocks of bits at most.
  package func goOn(
    _ walk: inout HeldBackWalk, blockCountMax: Int, for holder: HolderID,
    by source: DirtySource, at place: JournalPlace
  ) -> MarkCount {
    structure.withLock { _ in
      let regions = directory.withLock { $0.regions }
      guard let from = walk.place else {
        for region in regions {
          region.withState { $0.settle(holder) }
          limits.between?()
        }
        walk.place = HeldBackWalk.Place(page: 0, block: 0)
        return MarkCount()
      }
      if from.page == 0, from.block == 0, blockCountMax == .max {
        // All of it at once: the memory nodes work side by side.
        walk.endPass()
        return onNodes(regions) { region in
          region.release(holder, from: 0, blockCountMax: .max, by: source, at: place).count
        }
      }
      return goOn(&walk, from, regions[...], blockCountMax, holder, source, place)
    }
  }

  private func goOn(
    _ walk: inout HeldBackWalk, _ from: HeldBackWalk.Place, _ regions: ArraySlice<RegionLog>,
    _ blockCountMax: Int, _ holder: HolderID, _ source: DirtySource, _ place: JournalPlace
  ) -> MarkCount {
    var count = MarkCount()
    var left = blockCountMax
    for region in regions where region.lastPage >= from.page {
      // Another region may have come in the place of the one that was gone on with.
      let isSame = region.firstPage == from.page
      let part = region.release(
        holder, from: isSame ? from.block : 0, blockCountMax: left, by: source, at: place)
      count += part.count
      left -= part.blockCount
      if let next = part.next {
        walk.place = HeldBackWalk.Place(page: region.firstPage, block: next)
        return count
      }
    }
    walk.endPass()
    return count
  }

  /// Forgets what is held and noted; it is not marked.
  public func dropHeldBack(for holder: HolderID) {
    structure.withLock { _ in
      for region in directory.withLock({ $0.regions }) {
        _ = region.withState { $0.dropHeld(holder) }
        limits.between?()
      }
    }
  }

  /// Pages held by any holder, each once.
  public var heldBackPageCount: UInt64 { heldBackPageCount { _ in true } }

  /// Pages held by one or more of these, each once. A log may have holders of several trackers, and
  /// a tracker answers for its own.
  public func heldBackPageCount(for holders: Set<HolderID>) -> UInt64 {
    heldBackPageCount { holders.contains($0) }
  }

  private func heldBackPageCount(_ counts: @Sendable (HolderID) -> Bool) -> UInt64 {
    directory.withLock { $0.regions }.reduce(0) { count, region in
      count
        &+ (region.withState { $0.heldCountOfOne(counts) }
          ?? region.forEachHold {
            MarkCount(dirtyPages: $0.heldCount(blocks: $1, counts))
          }.dirtyPages)
    }
  }
}

extension RegionLog {
  /// Puts what is to be released, from a block on, into the log.
  /// - Returns: and how many blocks were looked at, and where to go on.
  fileprivate func release(
    _ holder: HolderID, from first: Int, blockCountMax: Int, by source: DirtySource,
    at place: JournalPlace
  ) -> (count: MarkCount, blockCount: Int, next: Int?) {
    guard withState({ $0.heldPages(of: holder)?.releasing != nil }) else {
      return (MarkCount(), 0, nil)
    }
    guard blockCountMax > 0 else { return (MarkCount(), 0, first) }
    let end = blockCountMax < blockCount - first ? first + blockCountMax : blockCount
    let count = forEachHold(in: first..<end) { state, blocks in
      let released = state.release(holder, blocks: blocks, by: source, at: place)
      if released.dirtyPages > 0 {
        let pages = state.pages(in: blocks)
        settleOrder(pages.lowerBound, pages.upperBound &- 1, by: source, at: place, &state)
      }
      return released
    }
    guard end == blockCount else { return (count, end - first, end) }
    _ = withState { $0.finishRelease(holder) }
    return (count, end - first, nil)
  }
}
