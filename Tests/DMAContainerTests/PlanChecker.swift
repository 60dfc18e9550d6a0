import Addressing
import DMAContainer
import IOVAMapping
import PageBitmap
import TestSupport

/// Checks the steps of a plan against its invariants page by page, with nothing of its cleverness.
struct PlanChecker {
  var mappings: [Mapping]
  var range = IOVARange.wholeSpace
  var logged: [IOVARange]?
  var writableOnly = true
  var mayCrossHoles: Bool
  var mayCutMapping: Bool
  var byteCountMax: UInt64
  /// Windows consist of so many pages together, counted from the beginning of the logged range.
  var granulePages: UInt64 = 1

  private static func pages(_ range: IOVARange) -> ClosedRange<UInt64> {
    range.first.rawValue >> 12...range.last.rawValue >> 12
  }

  private func mapping(at page: UInt64) -> Mapping? {
    mappings.first { $0.iova.contains(IOVA(page << 12)) }
  }

  /// Sentences; empty when all is well.
  func problems(_ steps: [QueryPlan.Step]) -> [String] {
    var problems: [String] = []
    var covered: [UInt64: Int] = [:]
    var lastWindow: IOVARange?
    for step in steps {
      switch step {
      case .window(let window):
        if let before = lastWindow, window.first <= before.last {
          problems.append("window \(window) does not lie after \(before)")
        }
        lastWindow = window
        problems += self.problems(ofWindow: window)
        for page in Self.pages(window) { covered[page, default: 0] += 1 }
      case .unqueryable(let range, let reason):
        problems += self.problems(ofUnqueryable: range, reason)
        for page in Self.pages(range) { covered[page, default: 0] += 1 }
      }
    }
    for mapping in mappings where mapping.isWritable || !writableOnly {
      guard let part = mapping.iova.intersection(range) else { continue }
      for page in Self.pages(part) where covered[page] != 1 {
        problems.append("page \(page) is covered \(covered[page] ?? 0) times")
      }
    }
    return problems
  }

  private func problems(ofWindow window: IOVARange) -> [String] {
    var problems: [String] = []
    let bytes = QueryBitmap.byteCount(window: window, pageSize: .fourKiB) ?? Int.max
    if UInt64(bytes) > byteCountMax { problems.append("window \(window) needs \(bytes) bytes") }
    if !window.isAligned(to: .fourKiB) { problems.append("window \(window) cuts a page") }
    let pages = Self.pages(window)
    if granulePages > 1 { return problems + self.problems(ofGranularWindow: window) }
    for end in [pages.lowerBound, pages.upperBound] {
      guard let mapping = mapping(at: end), mapping.isWritable || !writableOnly else {
        problems.append("window \(window) ends where nothing counts")
        continue
      }
      if !mayCutMapping, !window.contains(mapping.iova) {
        problems.append("window \(window) cuts \(mapping)")
      }
    }
    if !mayCrossHoles, pages.contains(where: { mapping(at: $0) == nil }) {
      problems.append("window \(window) crosses a hole")
    }
    if let logged, !logged.contains(where: { $0.contains(window) }) {
      problems.append("window \(window) is not inside one logged range")
    }
    return problems
  }

  private func problems(ofGranularWindow window: IOVARange) -> [String] {
    guard let logged = logged?.first(where: { $0.contains(window) }) else {
      return ["window \(window) is not inside one logged range"]
    }
    let pages = Self.pages(window)
    let region = Self.pages(logged)
    var problems: [String] = []
    if (pages.lowerBound - region.lowerBound) % granulePages != 0
      || pages.upperBound != region.upperBound
        && (pages.upperBound + 1 - region.lowerBound) % granulePages != 0
    {
      problems.append("window \(window) cuts a word of \(logged)")
    }
    let end = pages.upperBound - (pages.upperBound - region.lowerBound) % granulePages
    for word in [pages.lowerBound, end] {
      let isAsked = (word..<word + granulePages).contains { mapping(at: $0)?.isWritable == true }
      if !isAsked { problems.append("window \(window) ends with a word where nothing counts") }
    }
    return problems
  }

  private func problems(ofUnqueryable range: IOVARange, _ reason: QueryPlan.Reason) -> [String] {
    let bytes = QueryBitmap.byteCount(window: range, pageSize: .fourKiB) ?? Int.max
    let isJust =
      switch reason {
      case .tooLarge: UInt64(bytes) > byteCountMax && !mayCutMapping
      case .unaligned: !range.isAligned(to: .fourKiB)
      case .notLogged: logged.map { !$0.contains { $0.overlaps(range) } } ?? false
      }
    return isJust ? [] : ["\(range) is called unqueryable: \(reason)"]
  }

  /// The fewest windows there can be, gaps costing nothing: tries every way to cut the list.
  func fewestWindows() -> Int {
    let pieces = mappings.filter { mapping in
      guard mapping.isWritable || !writableOnly else { return false }
      return fits(mapping.iova, mapping.iova)
    }
    var fewest = [0]
    for end in pieces.indices {
      var best = Int.max
      for start in 0...end where isOneWindow(pieces[start].iova, pieces[end].iova) {
        best = min(best, fewest[start] + 1)
      }
      fewest.append(best)
    }
    return fewest[pieces.count]
  }

  private func fits(_ first: IOVARange, _ last: IOVARange) -> Bool {
    let joined = AddressRange(first: first.first, last: last.last)
    let bytes = QueryBitmap.byteCount(window: joined, pageSize: .fourKiB) ?? Int.max
    return UInt64(bytes) <= byteCountMax
  }

  private func isOneWindow(_ first: IOVARange, _ last: IOVARange) -> Bool {
    let joined = AddressRange(first: first.first, last: last.last)
    guard fits(first, last) else { return false }
    return mayCrossHoles || Self.pages(joined).allSatisfy { mapping(at: $0) != nil }
  }
}

/// A world of mappings in a small piece of IOVA.
struct PlanWorld {
  var mappings: [Mapping] = []

  static func range(_ firstPage: UInt64, _ pages: UInt64) -> IOVARange {
    AddressRange(first: IOVA(firstPage << 12), last: IOVA(((firstPage + pages) << 12) - 1))
  }

  mutating func map(_ firstPage: UInt64, _ pages: UInt64, _ permissions: Permissions) {
    mappings.append(
      Mapping(
        iova: Self.range(firstPage, pages), gpaFirst: GPA(firstPage << 12),
        permissions: permissions))
  }

  func table(policy: BisectPolicy = .refuse) throws -> MappingTable {
    var table = MappingTable(policy: policy, retiredCountMax: 0)
    for mapping in mappings {
      try table.map(mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
    }
    return table
  }

  /// Mappings of up to 100 pages in 600 pages, some read-only, some with holes between.
  static func random(_ random: inout SeededGenerator) -> PlanWorld {
    var world = PlanWorld()
    var page: UInt64 = 0
    while page < 600 {
      if random.once(in: 2) { page += random.below(40 as UInt64) }
      let longest: UInt64 = random.once(in: 4) ? 100 : 12
      let pages = 1 + random.below(longest)
      let permissions: Permissions = random.once(in: 4) ? .read : .readWrite
      world.map(page, pages, permissions)
      page += pages
    }
    return world
  }

  /// Every world of `blocks` blocks of 64 pages: a hole, a new mapping (writable or not), or more
  /// of the one before.
  static func every(blocks: Int, _ body: (PlanWorld) throws -> Void) rethrows {
    for code in 0..<(1 << (2 * blocks)) {
      var world = PlanWorld()
      var start = 0
      for block in 0...blocks {
        let kind = block == blocks ? 0 : code >> (2 * block) & 3
        if kind == 3, block > 0 { continue }
        if block > start, code >> (2 * start) & 3 == 1 || code >> (2 * start) & 3 == 2 {
          let permissions: Permissions = code >> (2 * start) & 3 == 1 ? .readWrite : .read
          world.map(UInt64(start) * 64, UInt64(block - start) * 64, permissions)
        }
        start = block
      }
      try body(world)
    }
  }
}
