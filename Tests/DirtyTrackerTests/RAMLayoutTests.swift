import Addressing
import DirtyTracker
import GuestDirtyLog
import TestSupport
import Testing

/// Where RAM is, what of it was given back, and what this process sees of it, against page numbers.
@Suite struct RAMLayoutTests {
  enum Fault { case none, forgetsWithoutAWord, takesPieceForPart }

  static func range(_ first: UInt64, _ last: UInt64) -> GPARange {
    GPARange(first: GPA(first << 12), last: GPA(last << 12 | 4095))
  }

  static func pages(_ range: GPARange) -> ClosedRange<UInt64> {
    (range.first.rawValue >> 12)...(range.last.rawValue >> 12)
  }

  /// Pages in rising order as ranges.
  static func ranges(_ pages: some Sequence<UInt64>) -> [GPARange] {
    var found: [GPARange] = []
    for page in pages.sorted() {
      let one = range(page, page)
      if let last = found.last, last.isFollowed(by: one) {
        found[found.count - 1] = AddressRange(first: last.first, last: one.last)
      } else {
        found.append(one)
      }
    }
    return found
  }

  /// The model: a set of discarded pages, and the host page of each page of RAM that has one.
  struct Naive {
    var regions: [RAMRegion] = []
    var discarded: Set<UInt64> = []

    func host(_ page: UInt64) -> UInt64? {
      for region in regions where pages(region.gpa).contains(page) {
        return region.hvaFirst.map {
          $0.rawValue >> 12 + page - region.gpa.first.rawValue >> 12
        }
      }
      return nil
    }

    func hostMemory(behind range: GPARange) -> HostMemory {
      let hosts = pages(range).map(host)
      let seen = hosts.compactMap { $0 }
      guard let first = seen.first else { return .notVisible }
      let isOnePiece =
        seen.count == hosts.count && zip(seen, seen.dropFirst()).allSatisfy { $0 + 1 == $1 }
      return isOnePiece ? .contiguous(HVA(first << 12)) : .notContiguous
    }

    func populated(in range: GPARange) -> [GPARange] {
      regions.sorted { $0.gpa.first < $1.gpa.first }.flatMap { region in
        ranges(
          pages(range).filter { pages(region.gpa).contains($0) && !discarded.contains($0) })
      }
    }
  }

  static let worldPages: UInt64 = 60

  static func region(_ index: UInt64, _ random: inout SeededGenerator) -> RAMRegion {
    let first = index * 8
    // Seamless with its neighbours, apart from them, or not seen by this process.
    let hva: HVA? =
      switch random.below(4) as UInt64 {
      case 0: nil
      case 1: HVA((1 << 30 + index * 100) << 12)
      default: HVA((1 << 20 + first) << 12)
      }
    return RAMRegion(
      name: "\(index)", gpa: range(first, first + 5 + random.below(3 as UInt64)), hvaFirst: hva)
  }

  static func run(_ seed: UInt64, fault: Fault = .none) -> String? {
    var random = SeededGenerator(seed: seed)
    let limit = 2 + random.below(12)
    let layout = RAMLayout(discardedRangeCountMax: limit)
    var model = Naive()
    for step in 0..<300 {
      let first = random.below(worldPages)
      let range = range(first, min(worldPages - 1, first + random.below(12 as UInt64)))
      var forgotten: GPARange?
      switch random.below(6) as UInt64 {
      case 0:
        let region = region(random.below(7 as UInt64), &random)
        let isTaken = model.regions.contains { $0.gpa.overlaps(region.gpa) }
        if isTaken {
          // Two discarded pieces less, or one more that was cut, are looked at below.
          guard let old = model.regions.first(where: { $0.gpa.overlaps(region.gpa) }) else { break }
          layout.remove(old)
          model.regions.removeAll { $0 == old }
          model.discarded.subtract(pages(old.gpa))
          if ranges(model.discarded).count > limit {
            model.discarded = Set(layout.discarded.flatMap { Array(pages($0)) })
          }
        } else {
          layout.add(region)
          model.regions.append(region)
        }
      case 1, 2, 3:
        forgotten = layout.discard(range)
        model.discarded.formUnion(pages(range))
      default:
        forgotten = layout.populate(range)
        model.discarded.subtract(pages(range))
      }
      if fault == .forgetsWithoutAWord, let some = layout.discarded.first {
        layout.populate(some)
      }
      if let difference = difference(layout, &model, forgotten, limit, &random, fault) {
        return "step \(step): \(difference)"
      }
    }
    return nil
  }

  private static func difference(
    _ layout: RAMLayout, _ model: inout Naive, _ forgotten: GPARange?, _ limit: Int,
    _ random: inout SeededGenerator, _ fault: Fault
  ) -> String? {
    let all = ranges(model.discarded)
    if (forgotten != nil) != (all.count > limit) { return "\(all.count) discarded: \(limit)" }
    if let forgotten {
      let least = all.map(\.lastOffset).min()
      if !all.contains(forgotten) || forgotten.lastOffset != least { return "\(forgotten) went" }
      model.discarded.subtract(pages(forgotten))
    }
    if layout.discarded != ranges(model.discarded) { return "discarded: \(layout.discarded)" }
    let first = random.below(worldPages)
    let range = range(first, first + random.below(worldPages - first))
    let expected = model.populated(in: range)
    if layout.populated(in: range).map(\.gpa) != expected { return "populated in \(range)" }
    // The same a few at a time.
    let countMax = 1 + random.below(3)
    var found: [GPARange] = []
    var next: GPARange? = range
    while let rest = next {
      let parts = layout.populated(in: rest, countMax: countMax)
      found += parts.map(\.gpa)
      let isMore = parts.count == countMax
      let last = parts.last?.gpa.last ?? range.last
      next =
        isMore && last < range.last
        ? AddressRange(first: GPA(last.rawValue + 1), last: range.last) : nil
    }
    if found != expected { return "populated in \(range), \(countMax) at a time" }
    var memory = layout.hostMemory(behind: range)
    if fault == .takesPieceForPart, memory == .notContiguous { memory = .notVisible }
    return memory == model.hostMemory(behind: range) ? nil : "\(range): \(memory)"
  }

  @Test func `random layouts agree with page numbers`() {
    for seed in [TestSeed.seed(default: 41), 42, 43, 44, 45, 46, 47, 48] {
      let difference = Self.run(seed)
      #expect(difference == nil, "\(TestSeed.reproduce(seed, filter: "RAMLayoutTests"))")
    }
  }

  @Test(arguments: [Fault.forgetsWithoutAWord, .takesPieceForPart])
  func `the comparison notices a range that is forgotten and memory that is not one piece`(
    fault: Fault
  ) {
    #expect(Self.run(41, fault: fault) != nil)
  }

  @Test func `as many ranges as the limit says are kept, and no more, from either end`() {
    for isRising in [true, false] {
      let layout = RAMLayout()
      let limit = UInt64(Limits.discardedRangeCountMax)
      let pages = (0..<limit).map { isRising ? $0 * 2 : (limit - $0) * 2 }
      for page in pages {
        let forgotten = layout.discard(Self.range(page, page))
        if forgotten != nil { Issue.record("page \(page)") }
      }
      // One more is forgotten itself; a larger one instead of a smaller.
      let past = Self.range(limit * 4, limit * 4)
      #expect(layout.discard(past) == past)
      #expect(layout.discard(Self.range(limit * 6, limit * 6 + 1))?.lastOffset == 4095)
      #expect(layout.discarded.count == Limits.discardedRangeCountMax)
    }
  }

  @Test func `the ends of the address space are pages as others`() {
    let layout = RAMLayout()
    let last = GPARange(first: GPA(~0xfff), last: GPA(.max))
    layout.discard(Self.range(0, 0))
    layout.discard(last)
    layout.discard(Self.range(1, 1))
    #expect(layout.discarded == [Self.range(0, 1), last])
    layout.populate(.wholeSpace)
    #expect(layout.discarded.isEmpty)
    layout.add(RAMRegion(name: "top", gpa: last, hvaFirst: HVA(0x1000)))
    #expect(layout.hostMemory(behind: last) == .contiguous(HVA(0x1000)))
    #expect(layout.populated(in: .wholeSpace).map(\.gpa) == [last])
  }
}
