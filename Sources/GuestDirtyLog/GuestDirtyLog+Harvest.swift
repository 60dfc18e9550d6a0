import Addressing
import PageBitmap
import Locking

extension GuestDirtyLog {
  /// Pages and runs taken under one hold of a region's lock.
  private static let pagesPerHold: UInt64 = 65536
  private static let runsPerHold = 1024

  /// Takes dirty pages of a consumer, in GPA order, lowest first. They are in flight until
  /// `delivered` or `putBack`. A consumer the log does not know has nothing.
  public func harvest(
    for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int
  ) -> Harvest {
    let (regions, number) = directory.withLock { directory -> ([RegionLog], UInt64) in
      guard directory.index(of: consumer) != nil else { return ([], 0) }
      return (directory.regions, directory.nextNumber())
    }
    var taking = Taking(left: pageCountMax, room: runCountMax)
    for region in regions where taking.left > 0 && taking.room > 0 {
      take(for: consumer, region, &taking)
    }
    let pageCount = pageCountMax &- taking.left
    let isLast = regions.allSatisfy { $0.withState { $0.isGone || $0.isClean(for: consumer) } }
    if pageCount > 0 {
      let flight = Directory.Flight(
        runs: taking.runs, stretches: taking.stretches, pageCount: pageCount)
      depart(flight, number, consumer)
    }
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

  private func take(for consumer: ConsumerID, _ region: RegionLog, _ taking: inout Taking) {
    let before = taking.runs.count
    var next: UInt64? = 0
    while let page = next, taking.left > 0, taking.room > 0 {
      let bite = min(taking.left, Self.pagesPerHold)
      let bites = min(taking.room, Self.runsPerHold)
      var found = taking.found
      taking.found = []
      found.removeAll(keepingCapacity: true)
      next = region.withState { state in
        guard !state.isGone, let share = state.share(of: consumer) else { return nil }
        return state.takeRuns(
          for: share, from: page, pageCountMax: bite, into: &found, runCountMax: bites)
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
      taking.found = found
    }
    if taking.runs.count > before {
      taking.stretches.append(
        Directory.Flight.Stretch(serial: region.serial, region: region.region))
    }
  }

  private func depart(_ flight: Directory.Flight, _ number: UInt64, _ consumer: ConsumerID) {
    let oldest = directory.withLock { directory -> Directory.Flight? in
      guard let index = directory.index(of: consumer) else { return nil }
      directory.consumers[index].flights[number] = flight
      guard directory.consumers[index].flights.count > Self.flightCountMax,
        let first = directory.consumers[index].flights.keys.min()
      else { return nil }
      return directory.consumers[index].flights.removeValue(forKey: first)
    }
    if let oldest { _ = land(oldest, "a harvest that was never answered for") }
  }

  /// The pages of a harvest have arrived.
  public func delivered(_ harvest: Harvest) { _ = arrive(harvest) }

  /// The pages of a harvest did not arrive, or may not have: they are dirty again.
  ///
  /// Where they can not be, because the region was removed meanwhile, or the harvest is not in
  /// flight here, everything is dirty: see `markAllDirtyForGood`.
  @discardableResult
  public func putBack(_ harvest: Harvest) -> MarkCount {
    if let flight = arrive(harvest) { return land(flight, "harvest \(harvest.number)") }
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
    let flights = directory.withLock { directory -> [UInt64: Directory.Flight] in
      guard let index = directory.index(of: consumer) else { return [:] }
      let flights = directory.consumers[index].flights
      directory.consumers[index].flights = [:]
      return flights
    }
    var count = MarkCount()
    for (number, flight) in flights.sorted(by: { $0.key < $1.key }) {
      count += land(flight, "harvest \(number)")
    }
    return count
  }

  private func arrive(_ harvest: Harvest) -> Directory.Flight? {
    directory.withLock { directory in
      guard let index = directory.index(of: harvest.consumer) else { return nil }
      return directory.consumers[index].flights.removeValue(forKey: harvest.number)
    }
  }

  /// Marks the pages of a flight, then looks whether their regions are all still there: a region
  /// that goes in between is seen, one that went before is too.
  private func land(_ flight: Directory.Flight, _ name: String) -> MarkCount {
    var count = MarkCount()
    for run in flight.runs { count += mark(run, by: .putBack) }
    if let obstacle = directory.withLock({ $0.obstacle(to: flight) }) {
      markAllDirtyForGood(because: "\(name) was put back and \(obstacle)")
    }
    return count
  }
}
