public import Addressing
import PageBitmap
import Locking

extension GuestDirtyLog {
  /// A consumer of its own; what others harvest stays dirty for it.
  ///
  /// - Parameter startsDirty: everything is dirty for it: the first pre-copy pass. It is so in any
  ///   case while `allDirtyReason` stands.
  /// - Throws: `tooManyConsumers`, or `outOfMemory` for its bitmaps; it is not added then.
  public func addConsumer(
    _ name: String, startsDirty: Bool
  ) throws(GuestDirtyLogError) -> ConsumerID {
    try structure.withLock { (_) throws(GuestDirtyLogError) in
      let (regions, id, others) = directory.withLock { directory in
        (directory.regions, ConsumerID(Int(directory.nextNumber())), directory.consumers.count)
      }
      guard others < Limits.consumerCountMax else {
        throw .tooManyConsumers(limit: Limits.consumerCountMax)
      }
      for region in regions {
        do throws(PageBitmapError) {
          try region.withState { (state) throws(PageBitmapError) in try state.addShare(id) }
        } catch {
          for other in regions { other.remove(id) }
          throw .outOfMemory(region.region, reason: error.description)
        }
      }
      directory.withLock { $0.consumers.append(Directory.Consumer(id: id, name: name)) }
      // Read after the consumer is there: a sticky mark either reaches it or is seen here.
      let fills = startsDirty || allDirtyReason != nil
      onNodes(regions) { region in
        region.forEachHold { state, blocks in
          if others > 1 && !fills { state.mainToOwn(except: id, blocks: blocks) }
          if fills {
            state.fill(for: id, blocks: blocks)
            state.ownToMain(blocks: blocks)
          }
          return MarkCount()
        }
      }
      return id
    }
  }

  /// What is in flight for it is forgotten. Unknown consumers are none.
  public func removeConsumer(_ consumer: ConsumerID) {
    structure.withLock { _ in
      directory.withLock { $0.consumers.removeAll { $0.id == consumer } }
      onNodes(directory.withLock { $0.regions }) { region in
        region.remove(consumer)
        return MarkCount()
      }
    }
  }

  public func dirtyPageCount(for consumer: ConsumerID) -> UInt64 {
    directory.withLock { $0.regions }.reduce(0) { $0 &+ $1.dirtyCount(for: consumer) }
  }

  public func inFlightPageCount(for consumer: ConsumerID) -> UInt64 {
    directory.withLock { directory in
      guard let index = directory.index(of: consumer) else { return 0 }
      return directory.consumers[index].flights.values.reduce(0) { $0 &+ $1.pageCount }
    }
  }

  /// The dirty runs of a consumer, in GPA order. Looking changes nothing.
  public func peek(for consumer: ConsumerID, runCountMax: Int) -> [GPARange] {
    var found: [GPARange] = []
    for region in directory.withLock({ $0.regions }) {
      var page: UInt64 = 0
      while found.count < runCountMax, page < region.pageCount,
        let run = region.nextRun(for: consumer, from: page)
      {
        found.append(region.range(of: run, pageSize))
        page = run.last &+ 1
      }
    }
    return found
  }
}

extension RegionLog {
  fileprivate func remove(_ consumer: ConsumerID) {
    withState { $0.removeShare(consumer) }
    forEachHold { state, blocks in
      state.ownToMain(blocks: blocks)
      return MarkCount()
    }
    withState { $0.dropOwnOfLast() }
  }

  fileprivate func dirtyCount(for consumer: ConsumerID) -> UInt64 {
    withState { $0.isGone ? 0 : $0.dirtyCount(for: consumer) }
  }

  fileprivate func nextRun(for consumer: ConsumerID, from page: UInt64) -> PageRun? {
    withState { state in
      guard let share = state.share(of: consumer) else { return nil }
      return state.nextRun(of: share, from: page, limit: UInt64.max)
    }
  }

  func range(of run: PageRun, _ pageSize: PageSize) -> GPARange {
    let first = (firstPage &+ run.first) &<< pageSize.shift
    let last = (firstPage &+ run.last) &<< pageSize.shift
    return GPARange(first: GPA(first), last: GPA(last).lastOfPage(pageSize))
  }
}
