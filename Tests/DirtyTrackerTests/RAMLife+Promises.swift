import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation

/// What each change promises, and how table, backend and log differ from it.
extension RAMLife {
  func learn(_ change: Change, _ refusal: TrackerError?, _ mappingCounts: [Int]) {
    let failing = sides.indices.filter { sides[$0].faults.failedCount > 0 }
    if let refusal, failing.isEmpty { problem = problem ?? "no call failed, and: \(refusal)" }
    if case .keptPartLost(let part, _)? = refusal {
      for side in failing { sides[side].mayLack.formUnion(Self.pages(of: part)) }
    }
    switch change {
    case .add(let region):
      regions.insert(region)
      if refusal == nil { break }
      guard case .regionNotMapped? = refusal else { return unexpected(change, refusal) }
      for side in failing { sides[side].mayLack.formUnion(Self.pages(ofRegion: region)) }
    case .remove(let region): learnRemoval(region, refusal, failing, mappingCounts)
    case .discard(let first, let count):
      let pages = Set(first..<first + count)
      discarded.formUnion(pages)
      for side in sides.indices { sides[side].mayStay.subtract(pages) }
      if refusal != nil { for side in failing { sides[side].mayStay.formUnion(pages) } }
    case .populate(let first, let count):
      let pages = Set(first..<first + count)
      guard refusal == nil else {
        // It counts as given back still, and may be mapped.
        for side in sides.indices { sides[side].mayStay.formUnion(pages) }
        for side in failing { sides[side].mayLack.formUnion(pages) }
        return
      }
      discarded.subtract(pages)
      for side in sides.indices where sides[side].isIdentity {
        sides[side].mayLack.subtract(pages)
        sides[side].mayStay.subtract(pages)
      }
    case .switchSpace(let side):
      guard refusal == nil else {
        let all = Set(0..<Self.pageCount)
        if sides[side].isIdentity {
          sides[side].mayLack = all
        } else {
          sides[side].mayStay = all
        }
        return
      }
      sides[side].isIdentity.toggle()
      (sides[side].mayLack, sides[side].mayStay) = ([], [])
    }
  }

  private func learnRemoval(
    _ region: UInt64, _ refusal: TrackerError?, _ failing: [Int], _ mappingCounts: [Int]
  ) {
    let pages = Self.pages(ofRegion: region)
    guard let refusal else {
      regions.remove(region)
      discarded.subtract(pages)
      for side in sides.indices {
        sides[side].mayLack.subtract(pages)
        sides[side].mayStay.subtract(pages)
      }
      return
    }
    for side in failing {
      sides[side].mayLack.formUnion(pages)
      guard case .unmapFailed = refusal else { continue }
      // One mapping there is the one that stays, and its pages are dirty.
      let mappings = tracker.mappings(of: sides[side].id)
      let there = mappings.filter { $0.iova.overlaps(World.iova(pages.min() ?? 0, 8)) }
      guard there.count == 1, mappings.count == mappingCounts[side] else { continue }
      let clean = Self.pages(of: there[0].iova).subtracting(dirty)
      if !clean.isEmpty { problem = problem ?? "\(refusal): \(clean.sorted()) are clean" }
    }
  }

  private func unexpected(_ change: Change, _ refusal: TrackerError?) {
    problem = problem ?? "\(change) is refused by \(refusal as Any)"
  }

  private static func pages(of range: IOVARange) -> Set<UInt64> {
    Set(range.first.rawValue >> 12...range.last.rawValue >> 12)
  }

  var dirty: Set<UInt64> {
    var pages: Set<UInt64> = []
    for run in tracker.log.peek(for: reader, runCountMax: .max) {
      pages.formUnion(run.first.rawValue >> 12...run.last.rawValue >> 12)
    }
    return pages
  }

  /// The first difference between what was promised and what is.
  var difference: String? {
    if let problem { return problem }
    let names = Set(regions.map { "ram\($0)" })
    if Set(tracker.log.regions.map(\.name)) != names {
      return "the log has \(tracker.log.regions), not \(names)"
    }
    for side in sides.indices {
      if let difference = difference(side) { return "\(sides[side].container.name): \(difference)" }
    }
    return nil
  }

  private func difference(_ number: Int) -> String? {
    let side = sides[number]
    let isIdentity = tracker.containers[number].addressSpace == .identity
    if isIdentity != side.isIdentity { return "its address space is not \(side.isIdentity)" }
    var table: [UInt64: UInt64] = [:]
    for mapping in tracker.mappings(of: side.id) {
      for page in Self.pages(of: mapping.iova) {
        table[page] = mapping.translate(IOVA(page << 12)).map { $0.rawValue >> 12 }
      }
    }
    if table.isEmpty { sides[number].backendMayLack = false }
    let ram = regions.reduce(into: Set<UInt64>()) { $0.formUnion(Self.pages(ofRegion: $1)) }
    for page in 0..<Self.pageCount {
      let expected = isIdentity && ram.contains(page) && !discarded.contains(page)
      switch table[page] {
      case nil where expected && !side.mayLack.contains(page): return "page \(page) is not mapped"
      case let gpa? where gpa != page: return "page \(page) is mapped to \(gpa)"
      case _? where !expected && !side.mayStay.contains(page): return "page \(page) is mapped"
      default: break
      }
      let reached = side.port.page(behind: IOVA(page << 12))
      if reached != table[page], reached != nil || !side.backendMayLack {
        return "page \(page) leads to \(reached as Any), its table says \(table[page] as Any)"
      }
    }
    return nil
  }

  /// Nothing fails any more: both containers lose everything, are tracked again, and get all RAM.
  /// - Returns: what is wrong then.
  func recover() -> [String] {
    for side in sides.indices {
      sides[side].faults.reset()
      if sides[side].isIdentity { perform(.switchSpace(side: side)) }
      // A switch that failed before may have left something.
      (sides[side].mayLack, sides[side].mayStay) = ([], [])
    }
    _ = tracker.stopTracking()
    if !regions.contains(0) { perform(.add(region: 0)) }
    for region in regions {
      perform(.populate(first: 2 * region * Self.regionPages, count: Self.regionPages))
    }
    for side in sides.indices { perform(.switchSpace(side: side)) }
    _ = tracker.startTracking()
    var flaws = [difference].compactMap { $0 }
    flaws += tracker.containers.flatMap(\.scopes).filter { $0.contains("degraded") }
    harvest()
    for (page, side) in sides.enumerated() {
      if side.port.touch(IOVA(UInt64(page) << 12)) == nil { flaws.append("page \(page): no write") }
    }
    _ = tracker.sync(isFinal: false)
    if dirty != [0, 1] {
      flaws.append("after writes to pages 0 and 1 \(dirty.sorted()) are dirty")
    }
    return flaws
  }
}
