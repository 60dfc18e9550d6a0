public import Addressing
import PageBitmap
import Locking

extension GuestDirtyLog {
  /// Takes dirty pages of a consumer, in GPA order, lowest first. They are in flight until
  /// `delivered` or `putBack`. A consumer the log does not know has nothing.
  public func harvest(
    for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int
  ) -> Harvest {
    harvest(for: consumer, pageCountMax: pageCountMax, runCountMax: runCountMax) { _ in true }
  }

  /// Takes all dirty pages of the region that begins at `first`.
  public func harvest(for consumer: ConsumerID, inRegionAt first: GPA) -> Harvest {
    harvest(for: consumer, pageCountMax: .max, runCountMax: .max) { $0.gpa.first == first }
  }

  private func harvest(
    for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int,
    from isWanted: (RAMRegion) -> Bool
  ) -> Harvest {
    let (regions, number) = directory.withLock { directory -> ([RegionLog], UInt64) in
      guard directory.index(of: consumer) != nil else { return ([], 0) }
      directory.harvestsUnderWay += 1
      return (directory.regions, directory.nextNumber())
    }
    var taking = Taking(left: pageCountMax, room: runCountMax)
    for region in regions
    where taking.left > 0 && taking.room > 0 && isWanted(region.region) {
      take(for: consumer, number, region, &taking)
    }
    let pageCount = pageCountMax &- taking.left
    let isLast = regions.allSatisfy { $0.withState { $0.isGone || $0.isClean(for: consumer) } }
    if pageCount > 0 {
      let flight = Directory.Flight(
        runs: taking.runs, stretches: taking.stretches, pageCount: pageCount)
      depart(flight, number, consumer)
    }
    if number > 0 { directory.withLock { $0.harvestsUnderWay -= 1 } }
    return Harvest(
      consumer: consumer, number: number, runs: taking.runs, pageCount: pageCount, isLast: isLast)
  }

  private struct Taking {
    var left: UInt64
    var room: Int
    var runs: [GPARange] = []
    var stretches: [Directory.Flight.Stretch] = []
    var found: [PageRun] = []
  }

  private func take(
    for consumer: ConsumerID, _ number: UInt64, _ region: RegionLog, _ taking: inout Taking
  ) {
    let before = taking.runs.count
    var next: UInt64? = 0
    var last: UInt64?
    while let page = next, taking.left > 0 {
      // Without room for another run a run that a hold has cut goes on all the same: what a harvest
      // takes does not depend on what one hold takes.
      let onlyGoesOn = taking.room == 0
      if onlyGoesOn, last.map({ $0 &+ 1 != page }) ?? true { break }
      let pages = min(taking.left, limits.pageCount)
      let runs = min(max(taking.room, 1), limits.runCount)
      var found = taking.found
      taking.found = []
      found.removeAll(keepingCapacity: true)
      next = region.withState { state in
        guard !state.isGone, let share = state.share(of: consumer) else { return nil }
        if onlyGoesOn, !state.isDirty(page, for: share) { return nil }
        let next = state.takeRuns(
          for: share, from: page, pageCountMax: pages, into: &found, runCountMax: runs,
          lineCountMax: limits.lineCount)
        if !found.isEmpty {
          region.order(
            .taken(
              consumer: consumer.rawValue, harvest: number,
              found.map { region.range(of: $0, pageSize) }), &state)
        }
        return next
      }
      for run in found {
        let range = region.range(of: run, pageSize)
        taking.left &-= run.pageCount
        if taking.runs.count > before, let last = taking.runs.last, last.isFollowed(by: range) {
          taking.runs[taking.runs.count - 1] = GPARange(first: last.first, last: range.last)
        } else {
          taking.runs.append(range)
          taking.room -= 1
        }
      }
      last = found.last?.last ?? last
      taking.found = found
      if next != nil { limits.between?() }
    }
    if taking.runs.count > before {
      taking.stretches.append(
        Directory.Flight.Stretch(serial: region.serial, region: region.region))
    }
  }

  private func depart(_ flight: Directory.Flight, _ number: UInt64, _ consumer: ConsumerID) {
    let oldest = directory.withLock { directory -> (Directory.Flight, JournalPlace)? in
      guard let index = directory.index(of: consumer) else { return nil }
      directory.consumers[index].flights[number] = flight
      write(
        .departed(
          consumer: consumer.rawValue, harvest: number, pageCount: flight.pageCount))
      guard directory.consumers[index].flights.count > Self.flightCountMax,
        let first = directory.consumers[index].flights.keys.min(),
        let oldest = directory.consumers[index].flights.removeValue(forKey: first)
      else { return nil }
      return (oldest, journaled(.putBack(consumer: consumer.rawValue, harvest: first)))
    }
    if let (oldest, place) = oldest {
      _ = land(oldest, "a harvest that was never answered for", place)
    }
  }

  /// Whether it waits for `delivered` or `putBack`: neither came, and it was not put back as the
  /// oldest.
  public func isInFlight(_ harvest: Harvest) -> Bool {
    directory.withLock { directory in
      guard let index = directory.index(of: harvest.consumer) else { return false }
      return directory.consumers[index].flights[harvest.number] != nil
    }
  }

  /// The pages of a harvest have arrived.
  public func delivered(_ harvest: Harvest) {
    _ = arrive(
      harvest, .delivered(consumer: harvest.consumer.rawValue, harvest: harvest.number))
  }

  /// The pages of a harvest did not arrive, or may not have: they are dirty again.
  ///
  /// Where they can not be, because the region was removed meanwhile, or the harvest is not in
  /// flight here, everything is dirty: see `markAllDirtyForGood`.
  @discardableResult
  public func putBack(_ harvest: Harvest) -> MarkCount {
    let entry = DirtyLogEntry.putBack(
      consumer: harvest.consumer.rawValue, harvest: harvest.number)
    if let (flight, place) = arrive(harvest, entry) {
      return land(flight, "harvest \(harvest.number)", place)
    }
    guard harvest.pageCount > 0 else { return MarkCount() }
    var count = MarkCount()
    for run in harvest.runs { count += mark(run, by: .putBack) }
    markAllDirtyForGood(
      because: "harvest \(harvest.number) was put back and is not in flight")
    return count
  }

  /// Puts every harvest in flight back.
  @discardableResult
  public func putBackAll(for consumer: ConsumerID) -> MarkCount {
    let flights = directory.withLock {
      directory -> [(number: UInt64, flight: Directory.Flight, place: JournalPlace)] in
      guard let index = directory.index(of: consumer) else { return [] }
      let flights = directory.consumers[index].flights.sorted { $0.key < $1.key }
      directory.consumers[index].flights = [:]
      return flights.map { number, flight in
        (number, flight, journaled(.putBack(consumer: consumer.rawValue, harvest: number)))
      }
    }
    var count = MarkCount()
    for landing in flights {
      count += land(landing.flight, "harvest \(landing.number)", landing.place)
    }
    return count
  }

  private func arrive(
    _ harvest: Harvest, _ entry: DirtyLogEntry
  ) -> (Directory.Flight, JournalPlace)? {
    directory.withLock { directory in
      guard let index = directory.index(of: harvest.consumer),
        let flight = directory.consumers[index].flights.removeValue(forKey: harvest.number)
      else { return nil }
      return (flight, journaled(entry))
    }
  }

  /// Marks the pages of a flight, then looks whether their regions are all still there: a region
  /// that goes in between is seen, one that went before is too.
  private func land(
    _ flight: Directory.Flight, _ name: String, _ place: JournalPlace
  ) -> MarkCount {
    var count = MarkCount()
    for run in flight.runs { count += mark(run, by: .putBack, at: place) }
    if let obstacle = directory.withLock({ $0.obstacle(to: flight) }) {
      markAllDirtyForGood(because: "\(name) was put back and \(obstacle)")
    }
    return count
  }
}
