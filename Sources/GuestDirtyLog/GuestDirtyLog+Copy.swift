import Addressing
import PageBitmap
import Locking

/// The log as a value, and a log from one. See `Docs/records/0014`.
extension GuestDirtyLog {
  /// Where the events begin that a copy made from now on needs.
  /// - Returns: nil while a harvest is being taken, of which the copy would have a part only.
  package func beginCopy() -> JournalPlace? {
    directory.withLock { $0.harvestsUnderWay == 0 ? journal?.next : nil }
  }

  /// - Parameter holders: whose held-back pages are copied. They hold nothing back and settle
  ///   nothing meanwhile.
  package func copy(holders: [HolderID]) -> DirtyLogCopy {
    structure.withLock { _ in
      var copy = DirtyLogCopy()
      let regions = directory.withLock { directory in
        copy.place = journal?.next ?? .none
        copy.allDirtyReason = directory.allDirtyReason
        copy.regions = directory.regions.map(\.region)
        copy.consumers = directory.consumers.map {
          DirtyLogCopy.Consumer(number: $0.id.rawValue, name: $0.name)
        }
        for consumer in directory.consumers {
          for (number, flight) in consumer.flights.sorted(by: { $0.key < $1.key }) {
            copy.flights.append(
              .init(consumer: consumer.id.rawValue, harvest: number, runs: flight.runs))
          }
        }
        return directory.regions
      }
      for region in regions {
        var block = 0
        while block < region.blockCount {
          let end = min(block + limits.blockCount, region.blockCount)
          copy.blocks.append(region.copy(block..<end, holders))
          block = end
          limits.between?()
        }
      }
      return copy
    }
  }

  /// Makes an empty log, without a journal, the log that was copied.
  /// - Parameter holders: of the containers that hold pages back, by number.
  /// - Returns: what cannot be, a sentence; the log is of no use then.
  package func restore(_ copy: DirtyLogCopy, holders: [UInt16: HolderID]) -> String? {
    do throws(GuestDirtyLogError) {
      for region in copy.regions { try addRegion(region) }
    } catch {
      return "\(error)"
    }
    var harvests = ReplayedHarvests()
    for consumer in copy.consumers {
      let entry = DirtyLogEntry.consumerAdded(
        consumer: consumer.number, name: consumer.name, fills: false)
      if let failure = replay(entry, &harvests) { return failure }
    }
    for blocks in copy.blocks {
      guard
        let region = directory.withLock({
          $0.regions.region(holding: blocks.region.rawValue &>> pageSize.shift)
        }), blocks.own.isEmpty || blocks.own.count == copy.consumers.count
      else { return "blocks of bits at GPA \(blocks.region) belong to no region" }
      if let failure = region.restore(blocks, copy.consumers, holders, pageSize) { return failure }
    }
    for flight in copy.flights {
      _ = depart(flight.runs, flight.harvest, ConsumerID(flight.consumer))
    }
    directory.withLock { $0.allDirtyReason = copy.allDirtyReason }
    return nil
  }
}

extension RegionLog {
  fileprivate func copy(_ blocks: Range<Int>, _ holders: [HolderID]) -> DirtyLogCopy.Blocks {
    withState { state in
      let place = journal?.next ?? .none
      state.lastOrdered = place
      var copy = DirtyLogCopy.Blocks(region: region.gpa.first, blocks: blocks, place: place)
      let pages = state.pages(in: blocks)
      func found(_ set: Pages?) -> [GPARange] {
        set.map { runs(of: $0.bits, pages.lowerBound, pages.upperBound &- 1) } ?? []
      }
      copy.common = runs(of: state.main, pages.lowerBound, pages.upperBound &- 1)
      if state.shares.count > 1 { copy.own = state.shares.map { found($0.own) } }
      for holder in holders {
        guard let entry = state.heldPages(of: holder) else { continue }
        let held = DirtyLogCopy.Held(
          container: holder.container.rawValue,
          current: found(entry.current) + found(entry.releasing), next: found(entry.next))
        if !held.current.isEmpty || !held.next.isEmpty { copy.held.append(held) }
      }
      return copy
    }
  }

  fileprivate func restore(
    _ copy: DirtyLogCopy.Blocks, _ consumers: [DirtyLogCopy.Consumer],
    _ holders: [UInt16: HolderID], _ pageSize: PageSize
  ) -> String? {
    withState { state in
      if state.copied.isEmpty {
        state.copied = Array(repeating: JournalPlace(0), count: blockCount)
      }
      for block in copy.blocks.clamped(to: 0..<blockCount) { state.copied[block] = copy.place }
      for run in copy.common { insert(run, pageSize) { state.main.insert(first: $0, last: $1) } }
      for (consumer, runs) in zip(consumers, copy.own) {
        guard let own = state.share(of: ConsumerID(consumer.number))?.own else { continue }
        for run in runs { insert(run, pageSize) { own.bits.insert(first: $0, last: $1) } }
      }
      for held in copy.held {
        guard let holder = holders[held.container], state.heldNext(of: holder) != nil,
          let entry = state.heldPages(of: holder)
        else { return "no memory for what container \(held.container) holds back" }
        // Without memory it stays nil, which the next line says.
        if entry.current == nil { entry.current = try? state.cleanPages() }
        guard let current = entry.current, let next = entry.next else {
          return "no memory for what container \(held.container) holds back"
        }
        for run in held.current {
          insert(run, pageSize) { current.bits.insert(first: $0, last: $1) }
        }
        for run in held.next { insert(run, pageSize) { next.bits.insert(first: $0, last: $1) } }
      }
      return nil
    }
  }

  /// What of a run lies in the region, in its pages.
  private func insert(
    _ run: GPARange, _ pageSize: PageSize, _ insert: (UInt64, UInt64) -> UInt64
  ) {
    guard let inside = run.intersection(region.gpa) else { return }
    _ = insert(
      (inside.first.rawValue &>> pageSize.shift) &- firstPage,
      (inside.last.rawValue &>> pageSize.shift) &- firstPage)
  }
}

extension RegionState {
  /// Marks what a replay marks at `place`: not what the copy this state was made of has already.
  mutating func replayMark(
    first: UInt64, last: UInt64, by source: DirtySource, at place: JournalPlace
  ) -> MarkCount {
    var count = MarkCount()
    forEachPart(first: first, last: last, at: place) { state, first, last in
      count += state.mark(first: first, last: last, by: source)
    }
    return count
  }

  /// The parts of a range whose blocks were copied before `place`.
  mutating func forEachPart(
    first: UInt64, last: UInt64, at place: JournalPlace,
    _ body: (inout RegionState, UInt64, UInt64) -> Void
  ) {
    var page = first
    while page <= last {
      let block = Int(page / PageBitmap.pagesPerBlock)
      let end = min(last, UInt64(block + 1) &* PageBitmap.pagesPerBlock &- 1)
      if block >= copied.count || place >= copied[block] { body(&self, page, end) }
      page = end &+ 1
    }
  }
}
