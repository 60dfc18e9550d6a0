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
          try region.withState { (state) throws(PageBitmapError) in
            try state.addShare(id)
            guard !startsDirty else { return }
            region.order(
              .shareAdded(consumer: id.rawValue, region: region.region.gpa.first), &state)
          }
        } catch {
          for other in regions { other.remove(id) }
          write(.consumerRemoved(consumer: id.rawValue))
          throw .outOfMemory(region.region, reason: error.description)
        }
      }
      // Read as the consumer comes: a sticky mark either reaches it or is seen here.
      let fills = directory.withLock { directory in
        directory.consumers.append(Directory.Consumer(id: id, name: name))
        let fills = startsDirty || directory.allDirtyReason != nil
        write(.consumerAdded(consumer: id.rawValue, name: name, fills: fills))
        return fills
      }
      onNodes(regions) { region in
        if fills { return region.fill(for: id) }
        return region.forEachHold { state, blocks in
          if others > 1 {
            state.mainToOwn(except: id, blocks: blocks)
            region.order(
              .othersKept(
                except: id.rawValue, region: region.region.gpa.first, blocks: blocks), &state)
          }
          return MarkCount()
        }
      }
      return id
    }
  }

  /// Whether anybody reads the log.
  public var hasConsumers: Bool { directory.withLock { !$0.consumers.isEmpty } }

  /// What is in flight for it is forgotten. Unknown consumers are none.
  public func removeConsumer(_ consumer: ConsumerID) {
    structure.withLock { _ in
      directory.withLock { directory in
        guard directory.index(of: consumer) != nil else { return }
        directory.consumers.removeAll { $0.id == consumer }
        write(.consumerRemoved(consumer: consumer.rawValue))
      }
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
  /// Everything is dirty for the consumer.
  @discardableResult
  func fill(for consumer: ConsumerID) -> MarkCount {
    forEachHold { state, blocks in
      state.fill(for: consumer, blocks: blocks)
      state.ownToMain(blocks: blocks)
      return MarkCount()
    }
  }

  func remove(_ consumer: ConsumerID) {
    _ = withState { $0.removeShare(consumer) }
    forEachHold { state, blocks in
      state.ownToMain(blocks: blocks)
      return MarkCount()
    }
    _ = withState { $0.dropOwnOfLast() }
  }

  fileprivate func dirtyCount(for consumer: ConsumerID) -> UInt64 {
    let ofOne = withState { state -> UInt64? in
      guard !state.isGone, let share = state.share(of: consumer) else { return 0 }
      return share.own == nil ? state.main.dirtyCount : nil
    }
    if let ofOne { return ofOne }
    return forEachHold { state, blocks in
      MarkCount(dirtyPages: state.dirtyCount(for: consumer, blocks: blocks))
    }.dirtyPages
  }

  /// The first run from `page` on, all of it.
  fileprivate func nextRun(for consumer: ConsumerID, from page: UInt64) -> PageRun? {
    var found: PageRun?
    var next: UInt64? = page
    while let page = next {
      let (run, after) = withState { $0.nextRun(for: consumer, from: page, limits) }
      if let run {
        if let first = found?.first {
          guard run.first == page else { break }
          found = PageRun(first: first, last: run.last)
        } else {
          found = run
        }
        // A hold has cut it.
        next = run.pageCount == limits.pageCount ? run.last &+ 1 : nil
      } else {
        next = found == nil ? after : nil
      }
      if next != nil { limits.between?() }
    }
    return found
  }

  func range(of run: PageRun, _ pageSize: PageSize) -> GPARange {
    let first = (firstPage &+ run.first) &<< pageSize.shift
    let last = (firstPage &+ run.last) &<< pageSize.shift
    return GPARange(first: GPA(first), last: GPA(last).lastOfPage(pageSize))
  }
}
