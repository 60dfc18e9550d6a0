import Addressing
import PageBitmap
import Locking

/// What of a replay the log itself does not hold: harvests that are being taken.
package struct ReplayedHarvests: Sendable {
  fileprivate var taken: [UInt64: [GPARange]] = [:]

  package init() {}
}

extension GuestDirtyLog {
  /// Does what a journal of another log says, in a log without a journal.
  /// - Returns: what is otherwise than it was there, a sentence; nil when nothing is.
  package func replay(
    _ entry: DirtyLogEntry, _ harvests: inout ReplayedHarvests, at place: JournalPlace = .none
  ) -> String? {
    switch entry {
    case .regionAdded(let region):
      do throws(GuestDirtyLogError) { try addRegion(region) } catch { return "\(error)" }
    case .regionRemoved(let gpa):
      do throws(GuestDirtyLogError) {
        _ = try removeRegion(at: gpa)
      } catch {
        return "\(error)"
      }
    case .marked(let source, let runs):
      for run in runs { _ = mark(run, by: source, at: place) }
    case .taken(let consumer, let harvest, let runs):
      harvests.taken[harvest, default: []] += runs
      return take(runs, for: ConsumerID(consumer), harvest, at: place)
    case .departed(let consumer, let harvest, let pageCount):
      let runs = harvests.taken.removeValue(forKey: harvest) ?? []
      let taken = depart(runs, harvest, ConsumerID(consumer))
      if taken != pageCount {
        return "harvest \(harvest) departed with \(taken) pages and not with \(pageCount)"
      }
    case .delivered(let consumer, let harvest):
      if remove(harvest, of: ConsumerID(consumer)) == nil {
        return "harvest \(harvest) was delivered and is not in flight"
      }
    case .putBack(let consumer, let harvest):
      guard let flight = remove(harvest, of: ConsumerID(consumer)) else {
        return "harvest \(harvest) was put back and is not in flight"
      }
      for run in flight.runs { _ = mark(run, by: .putBack, at: place) }
    case .allMarkedDirty(let reason):
      directory.withLock { $0.allDirtyReason = $0.allDirtyReason ?? reason }
      _ = markEverything(by: .conservative(nil), at: place)
    case .allDirtyReset: resetAllDirty()
    default: return replayConsumer(entry)
    }
    return nil
  }

  private func replayConsumer(_ entry: DirtyLogEntry) -> String? {
    switch entry {
    case .consumerAdded(let number, let name, let fills):
      return add(ConsumerID(number), name, fills: fills)
    case .shareAdded(let number, let gpa):
      return withRegion(at: gpa) { (region, state) throws(PageBitmapError) in
        if state.share(of: ConsumerID(number)) == nil {
          try state.addShare(ConsumerID(number))
        }
      }
    case .othersKept(let number, let gpa, let blocks):
      return withRegion(at: gpa) { (region, state) throws(PageBitmapError) in
        let inside = blocks.clamped(to: 0..<region.blockCount)
        state.mainToOwn(except: ConsumerID(number), blocks: inside)
      }
    case .consumerRemoved(let number):
      let consumer = ConsumerID(number)
      removeConsumer(consumer)
      // Shares of one that was refused on its way.
      for region in directory.withLock({ $0.regions }) { region.remove(consumer) }
    default: break
    }
    return nil
  }

  /// After the last entry, of a journal that may end anywhere: shares of consumers that never came
  /// go.
  package func finishReplay() {
    structure.withLock { _ in
      let (regions, consumers) = directory.withLock { ($0.regions, $0.consumers.map(\.id)) }
      for region in regions {
        let strays = region.withState { state in
          state.shares.map(\.consumer).filter { !consumers.contains($0) }
        }
        for stray in strays { region.remove(stray) }
        region.withState { state in
          state.shares = consumers.compactMap { state.share(of: $0) }
        }
      }
    }
  }

  private func withRegion(
    at gpa: GPA, _ body: (RegionLog, inout RegionState) throws(PageBitmapError) -> Void
  ) -> String? {
    let page = gpa.rawValue &>> pageSize.shift
    guard let region = directory.withLock({ $0.regions.region(holding: page) }) else {
      return "no region at GPA \(gpa)"
    }
    do throws(PageBitmapError) {
      try region.withState { (state) throws(PageBitmapError) in try body(region, &state) }
      return nil
    } catch {
      return "\(error)"
    }
  }

  private func add(_ id: ConsumerID, _ name: String, fills: Bool) -> String? {
    structure.withLock { _ in
      let (regions, others, isThere) = directory.withLock {
        ($0.regions, $0.consumers.count, $0.index(of: id) != nil)
      }
      guard !isThere else {
        return "consumer \(name) is there already"
      }
      guard others < Limits.consumerCountMax else {
        return "\(GuestDirtyLogError.tooManyConsumers(limit: Limits.consumerCountMax))"
      }
      for region in regions {
        let failure = region.withState { state -> String? in
          guard state.share(of: id) == nil else { return nil }
          do throws(PageBitmapError) { try state.addShare(id) } catch { return "\(error)" }
          return nil
        }
        if let failure { return failure }
        if fills { region.fill(for: id) }
      }
      directory.withLock { $0.consumers.append(Directory.Consumer(id: id, name: name)) }
      return nil
    }
  }

  /// Takes exactly these pages.
  private func take(
    _ runs: [GPARange], for consumer: ConsumerID, _ harvest: UInt64, at place: JournalPlace
  ) -> String? {
    var clean: GPARange?
    for run in runs {
      _ = markPieces(
        first: run.first.rawValue &>> pageSize.shift, last: run.last.rawValue &>> pageSize.shift
      ) { region, first, last in
        let isDirty = region.withState { state in
          guard let share = state.share(of: consumer) else { return false }
          var wasDirty = true
          state.forEachPart(first: first, last: last, at: place) { state, first, last in
            wasDirty = state.take(first: first, last: last, for: share, limits) && wasDirty
          }
          return wasDirty
        }
        if !isDirty { clean = clean ?? run }
        return MarkCount()
      }
    }
    return clean.map { "harvest \(harvest) took GPA \($0), which is not all dirty now" }
  }

  /// - Returns: how many pages it has.
  func depart(
    _ runs: [GPARange], _ harvest: UInt64, _ consumer: ConsumerID
  ) -> UInt64 {
    directory.withLock { directory in
      let pageCount = runs.reduce(0) { $0 &+ $1.pageCount(pageSize) }
      guard let index = directory.index(of: consumer) else { return pageCount }
      var flight = Directory.Flight(runs: [], stretches: [], pageCount: pageCount)
      var joined: [GPARange] = []
      for run in runs {
        if let last = joined.last, last.isFollowed(by: run),
          directory.regions.region(holding: run.first.rawValue &>> pageSize.shift)
            === directory.regions.region(holding: last.first.rawValue &>> pageSize.shift)
        {
          joined[joined.count - 1] = GPARange(first: last.first, last: run.last)
        } else {
          joined.append(run)
        }
      }
      for region in directory.regions
      where joined.contains(where: { $0.overlaps(region.region.gpa) }) {
        flight.stretches.append(.init(serial: region.serial, region: region.region))
      }
      flight.runs = joined
      directory.consumers[index].flights[harvest] = flight
      return pageCount
    }
  }

  private func remove(_ harvest: UInt64, of consumer: ConsumerID) -> Directory.Flight? {
    directory.withLock { directory in
      guard let index = directory.index(of: consumer) else { return nil }
      return directory.consumers[index].flights.removeValue(forKey: harvest)
    }
  }
}

extension RegionState {
  /// Takes pages out for one consumer, the others keep them.
  /// - Returns: whether all of them were dirty for it.
  fileprivate mutating func take(
    first: UInt64, last: UInt64, for share: ConsumerShare, _ limits: HoldLimits
  ) -> Bool {
    var found: [PageRun] = []
    var page: UInt64? = first
    var wasDirty = true
    while let from = page, from <= last {
      let (run, after) = nextRun(for: share.consumer, from: from, limits)
      guard let run else {
        wasDirty = false
        page = after
        continue
      }
      if run.first > from { wasDirty = false }
      guard run.first <= last else { break }
      let pages = min(run.last, last) &- run.first &+ 1
      _ = takeRuns(
        for: share, from: run.first, pageCountMax: pages, into: &found, runCountMax: 1,
        lineCountMax: limits.lineCount)
      page = run.first &+ pages
    }
    return wasDirty
  }
}
