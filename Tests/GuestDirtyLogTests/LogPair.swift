import Addressing
import GuestDirtyLog
import PageBitmap

/// One thing that happens to a log.
enum LogStep {
  case mark(first: UInt64, last: UInt64, DirtySource)
  case merge(first: UInt64, bits: [UInt64], DirtySource)
  case scatter([Mapping], dirty: [IOVARange], DirtySource)
  case holdBack([Mapping], dirty: [IOVARange], ContainerID)
  case holdBackRange(first: UInt64, last: UInt64, ContainerID)
  case settle(ContainerID)
  case release(ContainerID)
  case drop(ContainerID)
  case everything
  case addRegion(RAMRegion)
  case removeRegion(UInt64)
  case addConsumer(Int, startsDirty: Bool)
  case removeConsumer(Int)
  case harvest(Int, pageCountMax: Int, runCountMax: Int)
  /// The harvest at this place among all taken, settled or not.
  case delivered(Int)
  case putBack(Int)
  case putBackAll(Int)
  case resetAllDirty
}

/// What a faulty log would do, to show that the comparison notices.
enum LogFault {
  case none, losesLastPageOfMark, losesLastPageOfHeldRange, losesPutBack
  /// Two trackers hold back under one name.
  case sharesHolders
}

/// The log and its model, taken through the same steps. Consumers are named by small numbers.
struct LogPair {
  let log: GuestDirtyLog
  var model = NaiveDirtyLog()
  var ids: [Int: ConsumerID] = [:]
  var harvests: [(consumer: Int, harvest: Harvest)] = []
  var fault = LogFault.none
  /// By what the model calls them. All hold for a container of the same number, as those of two
  /// trackers may.
  private var holders: [ContainerID: HolderID] = [:]

  init(
    workers: any NodeWorkers = InlineNodeWorkers(), nodeCount: Int = 1,
    limits: HoldLimits = HoldLimits()
  ) {
    log = GuestDirtyLog(
      topology: FakeTopology(nodeCount: nodeCount), workers: workers, limits: limits)
  }

  static func range(_ first: UInt64, _ last: UInt64) -> GPARange {
    GPARange(first: GPA(first << 12), last: GPA(last << 12 | 4095))
  }

  /// Takes both through one step.
  /// - Returns: whether both gave the same answer.
  mutating func apply(_ step: LogStep) throws -> Bool {
    switch step {
    case .mark, .merge, .scatter, .everything: return try applyMark(step)
    case .holdBack, .holdBackRange, .settle, .release, .drop: return try applyHeld(step)
    case .harvest, .delivered, .putBack, .putBackAll: return applyHarvest(step)
    case .addRegion(let region):
      let isTaken = (try? log.addRegion(region)) != nil
      return isTaken == model.addRegion(region)
    case .removeRegion(let page):
      let isGone = (try? log.removeRegion(at: GPA(page << 12))) != nil
      return isGone == model.removeRegion(holding: page)
    case .addConsumer(let number, let startsDirty):
      guard ids[number] == nil else { return true }
      ids[number] = try log.addConsumer("consumer \(number)", startsDirty: startsDirty)
      model.addConsumer(number, startsDirty: startsDirty)
    case .removeConsumer(let number):
      guard let id = ids.removeValue(forKey: number) else { return true }
      log.removeConsumer(id)
      model.consumers[number] = nil
    case .resetAllDirty:
      log.resetAllDirty()
      model.isAllDirty = false
    }
    return true
  }

  private mutating func applyMark(_ step: LogStep) throws -> Bool {
    switch step {
    case .mark(let first, let last, let source):
      let end = fault == .losesLastPageOfMark && last > first ? last - 1 : last
      return log.mark(Self.range(first, end), by: source) == model.mark(first...last, by: source)
    case .merge(let first, let words, let source):
      let count = UInt64(words.count * 64 - 7)
      var pages: [UInt64] = []
      for bit in 0..<count {
        let at = bit + 3
        let word = words[Int(at / 64)]
        if word & (1 << (at % 64)) != 0 { pages.append(first + bit) }
      }
      return log.merge(
        words: words.span, bitOffset: 3, bitCount: count, at: GPA(first << 12), by: source)
        == model.mark(pages, by: source)
    case .scatter(let mappings, let dirty, let source):
      let query = try Self.query(mappings, dirty)
      return log.scatter(query, through: mappings.span, by: source)
        == model.mark(NaiveDirtyLog.behind(query, mappings), by: source)
    default:
      return log.markEverything(by: .conservative(ContainerID(1)))
        == model.mark(model.allPages, by: .conservative(ContainerID(1)))
    }
  }

  private mutating func holder(_ name: ContainerID) -> HolderID {
    let key = fault == .sharesHolders ? ContainerID(0) : name
    if let holder = holders[key] { return holder }
    let holder = log.makeHolder(for: ContainerID(9))
    holders[key] = holder
    return holder
  }

  private mutating func applyHeld(_ step: LogStep) throws -> Bool {
    switch step {
    case .holdBack(let mappings, let dirty, let container):
      let query = try Self.query(mappings, dirty)
      return log.holdBack(query, through: mappings.span, for: holder(container))
        == model.holdBack(NaiveDirtyLog.behind(query, mappings), for: container)
    case .holdBackRange(let first, let last, let container):
      let end = fault == .losesLastPageOfHeldRange && last > first ? last - 1 : last
      return log.holdBack(Self.range(first, end), for: holder(container))
        == model.holdBack(Array(first...last), for: container)
    case .settle(let container):
      return log.settleHeldBack(for: holder(container), by: .deviceQuery(container))
        == model.settle(container, by: .deviceQuery(container))
    case .release(let container):
      return log.releaseHeldBack(for: holder(container), by: .unmap(container))
        == model.release(container, by: .unmap(container))
    case .drop(let container):
      log.dropHeldBack(for: holder(container))
      model.drop(container)
      return true
    default: return false
    }
  }

  private mutating func applyHarvest(_ step: LogStep) -> Bool {
    switch step {
    case .harvest(let number, let pages, let runs):
      guard let id = ids[number] else { return true }
      let harvest = log.harvest(for: id, pageCountMax: UInt64(pages), runCountMax: runs)
      harvests.append((number, harvest))
      let taken = model.harvest(
        number, number: Int(harvest.number), pageCountMax: pages, runCountMax: runs)
      return harvest.runs.flatMap { Array(NaiveDirtyLog.pages($0)) } == taken
        && harvest.pageCount == UInt64(taken.count)
        && harvest.isLast == model.consumers[number]?.dirty.isEmpty
    case .delivered(let place):
      guard place < harvests.count else { return true }
      let (number, harvest) = harvests[place]
      log.delivered(harvest)
      // A consumer that came again under the number is another one.
      if ids[number] == harvest.consumer {
        model.consumers[number]?.flights[Int(harvest.number)] = nil
      }
    case .putBack(let place):
      guard place < harvests.count else { return true }
      let (number, harvest) = harvests[place]
      if fault == .losesPutBack { log.delivered(harvest) } else { log.putBack(harvest) }
      model.putBack(
        ids[number] == harvest.consumer ? number : -1, number: Int(harvest.number),
        pages: harvest.runs.flatMap { Array(NaiveDirtyLog.pages($0)) })
    case .putBackAll(let number):
      guard let id = ids[number] else { return true }
      log.putBackAll(for: id)
      for (flight, _) in model.consumers[number]?.flights ?? [:] {
        model.putBack(number, number: flight, pages: [])
      }
    default: return false
    }
    return true
  }

  static func query(_ mappings: [Mapping], _ dirty: [IOVARange]) throws -> QueryBitmap {
    var query = try QueryBitmap(byteCountMax: 4096)
    let first = mappings.first?.iova.first ?? IOVA(0)
    let last = mappings.last?.iova.last ?? IOVA(4095)
    try query.reset(
      window: AddressRange(first: first, last: last).expanded(to: .fourKiB), pageSize: .fourKiB)
    for range in dirty { query.insert(range) }
    return query
  }

  /// Whether log and model hold the same.
  var agrees: Bool {
    log.checkInvariants()
    for (number, id) in ids {
      let dirty = model.consumers[number]?.dirty ?? []
      let seen = log.peek(for: id, runCountMax: .max).flatMap { Array(NaiveDirtyLog.pages($0)) }
      let flying = model.consumers[number]?.flights.values.map(\.pages.count).reduce(0, +) ?? 0
      guard seen == dirty.sorted(), log.dirtyPageCount(for: id) == UInt64(dirty.count),
        log.inFlightPageCount(for: id) == UInt64(flying)
      else { return false }
    }
    return log.heldBackPageCount == model.heldCount
      && (log.allDirtyReason != nil) == model.isAllDirty
      && log.pagesBySource == model.pagesBySource
      && Set(log.regions.map(\.name)) == Set(model.regions.values.map(\.name))
  }
}
