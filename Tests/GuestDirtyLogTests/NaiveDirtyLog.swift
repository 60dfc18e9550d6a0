import Addressing
import GuestDirtyLog
import PageBitmap

/// The model: sets of page numbers of 4 KiB, everything asked page by page.
struct NaiveDirtyLog {
  struct Flight {
    var pages: [UInt64]
    var serials: Set<Int>
  }

  struct Consumer {
    var dirty: Set<UInt64> = []
    var flights: [Int: Flight] = [:]
  }

  var regions: [Int: RAMRegion] = [:]
  var consumers: [Int: Consumer] = [:]
  var next: [ContainerID: Set<UInt64>] = [:]
  var held: [ContainerID: Set<UInt64>] = [:]
  var isAllDirty = false
  var pagesBySource: [DirtySource: UInt64] = [:]
  private var serial = 0

  static func pages(_ range: GPARange) -> ClosedRange<UInt64> {
    (range.first.rawValue >> 12)...(range.last.rawValue >> 12)
  }

  func serial(holding page: UInt64) -> Int? {
    regions.first { Self.pages($0.value.gpa).contains(page) }?.key
  }

  var allPages: Set<UInt64> {
    regions.values.reduce(into: []) { $0.formUnion(Self.pages($1.gpa)) }
  }

  /// - Returns: false when the log has to refuse it.
  mutating func addRegion(_ region: RAMRegion) -> Bool {
    let isRefused = regions.values.contains {
      $0.name == region.name || $0.gpa.overlaps(region.gpa)
    }
    if isRefused { return false }
    serial += 1
    regions[serial] = region
    for id in consumers.keys { consumers[id]?.dirty.formUnion(Self.pages(region.gpa)) }
    return true
  }

  mutating func removeRegion(holding page: UInt64) -> Bool {
    guard let serial = serial(holding: page), let region = regions.removeValue(forKey: serial)
    else { return false }
    let gone = Self.pages(region.gpa)
    for id in consumers.keys { consumers[id]?.dirty.subtract(gone) }
    for id in held.keys { held[id]?.subtract(gone) }
    for id in next.keys { next[id]?.subtract(gone) }
    return true
  }

  mutating func mark(_ wanted: some Sequence<UInt64>, by source: DirtySource) -> MarkCount {
    var count = MarkCount()
    for page in wanted {
      guard serial(holding: page) != nil else {
        count.outsidePages += 1
        continue
      }
      count.dirtyPages += 1
      var isNew = false
      for id in consumers.keys where consumers[id]?.dirty.insert(page).inserted == true {
        isNew = true
      }
      if isNew { count.newlyDirtyPages += 1 }
    }
    if count.newlyDirtyPages > 0 { pagesBySource[source, default: 0] += count.newlyDirtyPages }
    return count
  }

  /// A page behind each dirty bit of a query; a page twice when two bits lead to it.
  static func behind(_ query: borrowing QueryBitmap, _ mappings: [Mapping]) -> [UInt64] {
    var found: [UInt64] = []
    for mapping in mappings where mapping.isWritable {
      query.forEachDirtyRun { run in
        if let part = mapping.clipped(to: run) { found += pages(part.gpa) }
      }
    }
    return found
  }

  mutating func holdBack(_ pages: [UInt64], for container: ContainerID) -> MarkCount {
    let inside = pages.filter { serial(holding: $0) != nil }
    next[container, default: []].formUnion(inside)
    return MarkCount(
      dirtyPages: UInt64(inside.count), outsidePages: UInt64(pages.count - inside.count))
  }

  mutating func settle(_ container: ContainerID, by source: DirtySource) -> MarkCount {
    let released = (held[container] ?? []).subtracting(next[container] ?? [])
    held[container] = next[container]
    next[container] = nil
    return mark(released, by: source)
  }

  mutating func release(_ container: ContainerID, by source: DirtySource) -> MarkCount {
    let all = (held[container] ?? []).union(next[container] ?? [])
    drop(container)
    return mark(all, by: source)
  }

  mutating func drop(_ container: ContainerID) {
    held[container] = nil
    next[container] = nil
  }

  var heldCount: UInt64 {
    UInt64(held.values.reduce(into: Set<UInt64>()) { $0.formUnion($1) }.count)
  }

  mutating func addConsumer(_ id: Int, startsDirty: Bool) {
    consumers[id] = Consumer(dirty: startsDirty || isAllDirty ? allPages : [])
  }

  mutating func harvest(_ id: Int, number: Int, pageCountMax: Int, runCountMax: Int) -> [UInt64] {
    var taken: [UInt64] = []
    var runs = 0
    for page in (consumers[id]?.dirty ?? []).sorted() where taken.count < pageCountMax {
      let joins = taken.last == page &- 1 && serial(holding: page) == serial(holding: page - 1)
      if !joins {
        runs += 1
        if runs > runCountMax { break }
      }
      taken.append(page)
    }
    consumers[id]?.dirty.subtract(taken)
    if !taken.isEmpty {
      let flight = Flight(pages: taken, serials: Set(taken.compactMap { serial(holding: $0) }))
      consumers[id]?.flights[number] = flight
    }
    return taken
  }

  /// - Parameter pages: what the harvest held, for one that is not in flight.
  mutating func putBack(_ id: Int, number: Int, pages: [UInt64]) {
    guard let flight = consumers[id]?.flights.removeValue(forKey: number) else {
      if pages.isEmpty { return }
      _ = mark(pages, by: .putBack)
      makeAllDirty()
      return
    }
    _ = mark(flight.pages, by: .putBack)
    if !flight.serials.isSubset(of: regions.keys) { makeAllDirty() }
  }

  mutating func makeAllDirty() {
    isAllDirty = true
    _ = mark(allPages, by: .conservative(nil))
  }
}
