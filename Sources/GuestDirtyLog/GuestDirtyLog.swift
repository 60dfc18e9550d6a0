public import Addressing
public import PageBitmap
import Synchronization

/// Which guest pages are dirty, who said so, and who has yet to read it.
///
/// Terms:
/// - **Dirty**: written since last harvested by a consumer.
/// - **In flight**: harvested, neither delivered nor put back.
/// - **Held back**: pinned pages, dirty in every round, that count for stop-and-copy only.
///
/// Invariants:
/// 1. A mark reaches every consumer there is.
/// 2. A page leaves the log for a consumer only by a harvest of that consumer, and comes back when
///    the harvest is put back.
/// 3. A harvest whose pages can not be put back makes everything dirty, for good.
/// 4. A region that comes while there are consumers is dirty for them as a whole.
public final class GuestDirtyLog: Sendable {
  public let pageSize: PageSize
  private let state = Mutex(State())

  private struct Consumer {
    var dirty: Set<UInt64> = []
    var flights: [UInt64: [GPARange]] = [:]
  }

  private struct State {
    var regions: [RAMRegion] = []
    var consumers: [Int: Consumer] = [:]
    var next: [ContainerID: Set<UInt64>] = [:]
    var held: [ContainerID: Set<UInt64>] = [:]
    var number: UInt64 = 0
    var reason: String?
    var pagesBySource: [DirtySource: UInt64] = [:]
  }

  public init(pageSize: PageSize = .fourKiB) { self.pageSize = pageSize }

  public var regions: [RAMRegion] { state.withLock { $0.regions } }

  public func region(holding gpa: GPA) -> RAMRegion? {
    state.withLock { state in state.regions.first { $0.gpa.contains(gpa) } }
  }

  public func addRegion(_ region: RAMRegion) throws(GuestDirtyLogError) {
    guard region.gpa.isAligned(to: pageSize) else {
      throw .unaligned(region, pageSize: pageSize)
    }
    try state.withLock { (state) throws(GuestDirtyLogError) in
      if let other = state.regions.first(where: { $0.gpa.overlaps(region.gpa) }) {
        throw .overlap(new: region, existing: other)
      }
      if state.regions.contains(where: { $0.name == region.name }) {
        throw .nameTaken(region.name)
      }
      state.regions.append(region)
      state.regions.sort { $0.gpa.first < $1.gpa.first }
      for id in state.consumers.keys {
        state.consumers[id]?.dirty.formUnion(pages(region.gpa))
      }
    }
  }

  public func removeRegion(at gpa: GPA) throws(GuestDirtyLogError) -> RAMRegion {
    try state.withLock { (state) throws(GuestDirtyLogError) in
      guard let index = state.regions.firstIndex(where: { $0.gpa.contains(gpa) }) else {
        throw .noRegion(at: gpa)
      }
      let region = state.regions.remove(at: index)
      let gone = Set(pages(region.gpa))
      for id in state.consumers.keys { state.consumers[id]?.dirty.subtract(gone) }
      return region
    }
  }

  private func pages(_ range: GPARange) -> ClosedRange<UInt64> {
    (range.first.rawValue >> pageSize.shift)...(range.last.rawValue >> pageSize.shift)
  }

  private func inside(_ page: UInt64, _ state: State) -> Bool {
    state.regions.contains { pages($0.gpa).contains(page) }
  }

  private func mark(
    _ wanted: some Sequence<UInt64>, _ state: inout State, _ source: DirtySource
  ) -> MarkCount {
    var count = MarkCount()
    for page in wanted {
      guard inside(page, state) else {
        count.outsidePages += 1
        continue
      }
      count.dirtyPages += 1
      var isNew = false
      for id in state.consumers.keys {
        if state.consumers[id]?.dirty.insert(page).inserted == true { isNew = true }
      }
      if isNew { count.newlyDirtyPages += 1 }
    }
    state.pagesBySource[source, default: 0] += count.newlyDirtyPages
    return count
  }

  @discardableResult
  public func mark(_ range: GPARange, by source: DirtySource) -> MarkCount {
    state.withLock { mark(pages(range), &$0, source) }
  }

  @discardableResult
  public func merge(
    words: Span<UInt64>, bitOffset: UInt64 = 0, bitCount: UInt64, at gpa: GPA,
    by source: DirtySource
  ) -> MarkCount {
    var found: [UInt64] = []
    for bit in bitOffset..<(bitOffset + bitCount)
    where words[Int(bit / 64)] & (1 << (bit % 64)) != 0 {
      found.append((gpa.rawValue >> pageSize.shift) + bit - bitOffset)
    }
    return state.withLock { mark(found, &$0, source) }
  }

  private func behind(_ query: borrowing QueryBitmap, _ mappings: Span<Mapping>) -> Set<UInt64> {
    var found: Set<UInt64> = []
    for index in mappings.indices where mappings[index].isWritable {
      let mapping = mappings[index]
      query.forEachDirtyRun { run in
        if let part = mapping.clipped(to: run) { found.formUnion(pages(part.gpa)) }
      }
    }
    return found
  }

  @discardableResult
  public func scatter(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, by source: DirtySource
  ) -> MarkCount {
    let found = behind(query, mappings)
    return state.withLock { mark(found, &$0, source) }
  }

  @discardableResult
  public func markEverything(by source: DirtySource) -> MarkCount {
    state.withLock { state in
      var count = MarkCount()
      for region in state.regions { count += mark(pages(region.gpa), &state, source) }
      return count
    }
  }

  public var allDirtyReason: String? { state.withLock { $0.reason } }

  /// Sticky: from now on every harvest finds everything dirty, until `resetAllDirty`.
  public func markAllDirtyForGood(because reason: String) {
    state.withLock { $0.reason = reason }
    markEverything(by: .conservative(nil))
  }

  /// A new attempt sends everything anyway.
  public func resetAllDirty() { state.withLock { $0.reason = nil } }

  @discardableResult
  public func holdBack(
    _ query: borrowing QueryBitmap, through mappings: Span<Mapping>, for container: ContainerID
  ) -> MarkCount {
    let found = behind(query, mappings)
    return state.withLock { state in
      state.next[container, default: []].formUnion(found.filter { inside($0, state) })
      return MarkCount(dirtyPages: UInt64(found.count))
    }
  }

  public func settleHeldBack(for container: ContainerID, by source: DirtySource) -> MarkCount {
    state.withLock { state in
      let next = state.next[container] ?? []
      let released = (state.held[container] ?? []).subtracting(next)
      state.held[container] = next
      state.next[container] = nil
      return mark(released, &state, source)
    }
  }

  public func releaseHeldBack(for container: ContainerID, by source: DirtySource) -> MarkCount {
    state.withLock { state in
      let all = (state.held[container] ?? []).union(state.next[container] ?? [])
      state.held[container] = nil
      state.next[container] = nil
      return mark(all, &state, source)
    }
  }

  public func dropHeldBack(for container: ContainerID) {
    state.withLock { state in
      state.held[container] = nil
      state.next[container] = nil
    }
  }

  public var heldBackPageCount: UInt64 {
    state.withLock { state in
      UInt64(state.held.values.reduce(into: Set<UInt64>()) { $0.formUnion($1) }.count)
    }
  }

  /// - Parameter startsDirty: everything is dirty for it: the first pre-copy pass.
  public func addConsumer(
    _ name: String, startsDirty: Bool
  ) throws(GuestDirtyLogError) -> ConsumerID {
    try state.withLock { (state) throws(GuestDirtyLogError) in
      guard state.consumers.count < Limits.consumerCountMax else {
        throw .tooManyConsumers(limit: Limits.consumerCountMax)
      }
      state.number += 1
      var consumer = Consumer()
      if startsDirty { for region in state.regions { consumer.dirty.formUnion(pages(region.gpa)) } }
      state.consumers[Int(state.number)] = consumer
      return ConsumerID(Int(state.number))
    }
  }

  public func removeConsumer(_ consumer: ConsumerID) {
    state.withLock { _ = $0.consumers.removeValue(forKey: consumer.rawValue) }
  }

  public func dirtyPageCount(for consumer: ConsumerID) -> UInt64 {
    state.withLock { UInt64($0.consumers[consumer.rawValue]?.dirty.count ?? 0) }
  }

  public func inFlightPageCount(for consumer: ConsumerID) -> UInt64 {
    state.withLock { state in
      let flights = state.consumers[consumer.rawValue]?.flights ?? [:]
      return flights.values.joined().reduce(0) { $0 + $1.pageCount(pageSize) }
    }
  }

  public func harvest(
    for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int
  ) -> Harvest {
    state.withLock { state in
      var own = state.consumers[consumer.rawValue] ?? Consumer()
      var runs: [GPARange] = []
      var count: UInt64 = 0
      for page in own.dirty.sorted() where count < pageCountMax {
        let first = GPA(page << pageSize.shift)
        let range = AddressRange(first: first, last: first.lastOfPage(pageSize))
        if let last = runs.last, last.isFollowed(by: range),
          state.regions.contains(where: { $0.gpa.contains(last.last) && $0.gpa.contains(first) })
        {
          runs[runs.count - 1] = AddressRange(first: last.first, last: range.last)
        } else if runs.count < runCountMax {
          runs.append(range)
        } else {
          break
        }
        own.dirty.remove(page)
        count += 1
      }
      state.number += 1
      own.flights[state.number] = runs
      state.consumers[consumer.rawValue] = own
      return Harvest(
        consumer: consumer, number: state.number, runs: runs, pageCount: count,
        isLast: own.dirty.isEmpty)
    }
  }

  public func delivered(_ harvest: Harvest) {
    state.withLock { state in
      _ = state.consumers[harvest.consumer.rawValue]?.flights.removeValue(forKey: harvest.number)
    }
  }

  @discardableResult
  public func putBack(_ harvest: Harvest) -> MarkCount {
    state.withLock { state in
      let id = harvest.consumer.rawValue
      var count = MarkCount()
      for run in state.consumers[id]?.flights.removeValue(forKey: harvest.number) ?? [] {
        count += mark(pages(run), &state, .putBack)
      }
      return count
    }
  }

  /// Puts every harvest in flight back.
  @discardableResult
  public func putBackAll(for consumer: ConsumerID) -> MarkCount {
    state.withLock { state in
      let flights = state.consumers[consumer.rawValue]?.flights ?? [:]
      state.consumers[consumer.rawValue]?.flights = [:]
      var count = MarkCount()
      for run in flights.values.joined() { count += mark(pages(run), &state, .putBack) }
      return count
    }
  }

  /// The dirty runs of a consumer. Looking changes nothing.
  public func peek(for consumer: ConsumerID, runCountMax: Int) -> [GPARange] {
    state.withLock { state in
      let dirty = state.consumers[consumer.rawValue]?.dirty.sorted() ?? []
      return dirty.prefix(runCountMax).map {
        let first = GPA($0 << pageSize.shift)
        return AddressRange(first: first, last: first.lastOfPage(pageSize))
      }
    }
  }

  /// Newly dirty pages by who said so, since the log was made.
  public var pagesBySource: [DirtySource: UInt64] { state.withLock { $0.pagesBySource } }
}
