import Addressing
import DMAContainer
import IOVAMapping
import TestSupport
import Testing

@Suite struct DeviceLogRangesTests {
  static func bytes(_ ranges: [IOVARange]) -> UInt64 {
    ranges.reduce(0) { $0 + $1.lastOffset + 1 }
  }

  /// Sentences; empty when all is well.
  static func problems(
    _ ranges: [IOVARange], holding runs: [IOVARange], countMax: Int
  ) -> [String] {
    var problems: [String] = []
    if ranges.count > countMax { problems.append("\(ranges.count) ranges") }
    for run in runs where !ranges.contains(where: { $0.contains(run) }) {
      problems.append("\(run) is not held")
    }
    for (range, next) in zip(ranges, ranges.dropFirst())
    where next.first <= range.last || range.isFollowed(by: next) {
      problems.append("\(range) and \(next) touch")
    }
    let fewest = fewestBytes(runs, countMax: countMax)
    if bytes(ranges) != fewest { problems.append("\(bytes(ranges)) bytes, not \(fewest)") }
    return problems
  }

  /// Tries every choice of gaps to keep.
  static func fewestBytes(_ runs: [IOVARange], countMax: Int) -> UInt64 {
    guard let first = runs.first, let last = runs.last else { return 0 }
    var best = UInt64.max
    for choice in 0..<(1 << (runs.count - 1)) where choice.nonzeroBitCount < countMax {
      var bytes = last.last.rawValue - first.first.rawValue + 1
      for index in 1..<runs.count where choice & (1 << (index - 1)) != 0 {
        bytes -= runs[index].first.rawValue - runs[index - 1].last.rawValue - 1
      }
      best = min(best, bytes)
    }
    return best
  }

  static func random(_ random: inout SeededGenerator, count: Int) -> [IOVARange] {
    var page: UInt64 = 0
    return (0..<count).map { _ in
      page += 1 + random.below(20 as UInt64)
      let pages = 1 + random.below(5 as UInt64)
      defer { page += pages }
      return PlanWorld.range(page, pages)
    }
  }

  @Test func `no other choice of as many ranges logs fewer bytes`() {
    let seed = TestSeed.seed(default: 243)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      let runs = Self.random(&random, count: 1 + random.below(9))
      let countMax = 1 + random.below(6)
      let chosen = DeviceLogRanges(
        runs, pageSize: .fourKiB, granule: .page, rangeCountMax: countMax)
      let problems = Self.problems(chosen.ranges, holding: runs, countMax: countMax)
      if !problems.isEmpty {
        Issue.record("\(problems) \(TestSeed.reproduce(seed, filter: "DeviceLogRangesTests"))")
        return
      }
      #expect(chosen.gapByteCount == Self.bytes(chosen.ranges) - Self.bytes(runs))
    }
  }

  @Test func `the checker notices a lost run, one range too many and a bad choice of gaps`() {
    let runs = [PlanWorld.range(0, 1), PlanWorld.range(2, 1), PlanWorld.range(10, 1)]
    let good = [PlanWorld.range(0, 3), PlanWorld.range(10, 1)]
    let bad = [PlanWorld.range(0, 1), PlanWorld.range(2, 9)]
    #expect(Self.problems(good, holding: runs, countMax: 2) == [])
    #expect(Self.problems(bad, holding: runs, countMax: 2) != [])
    #expect(Self.problems(runs, holding: runs, countMax: 2) != [])
    #expect(Self.problems([good[0]], holding: runs, countMax: 2) != [])
  }

  @Test func `a table of many runs fits the limit, read-only mappings left out`() throws {
    var table = MappingTable(retiredCountMax: 0)
    for index in 0..<20_000 as Range<UInt64> {
      let permissions: Permissions = index % 3 == 0 ? .read : .readWrite
      try table.map(
        PlanWorld.range(index * 7, 2), to: GPA(index << 13), permissions: permissions)
    }
    let chosen = DeviceLogRanges(table, pageSize: .fourKiB, granule: .page)
    #expect(chosen.ranges.count == Limits.deviceLogRangeCountMax)
    var missed = 0
    table.forEach(in: .wholeSpace) { mapping in
      let isHeld = chosen.ranges.contains { $0.contains(mapping.iova) }
      if mapping.isWritable, !isHeld { missed += 1 }
    }
    #expect(missed == 0)
    #expect(chosen.ranges.first?.first == IOVA(7 << 12))
  }

  @Test func `larger pages make neighbours one range`() {
    let runs = [PlanWorld.range(0, 1), PlanWorld.range(511, 1), PlanWorld.range(512, 1)]
    let chosen = DeviceLogRanges(runs, pageSize: .twoMiB, granule: .page, rangeCountMax: 8)
    #expect(chosen.ranges == [PlanWorld.range(0, 1024)])
    #expect(chosen.gapByteCount == 1021 << 12)
    #expect(DeviceLogRanges([], pageSize: .fourKiB, granule: .page, rangeCountMax: 8).ranges == [])
    #expect(
      DeviceLogRanges(
        [.wholeSpace], pageSize: .fourKiB, granule: .page, rangeCountMax: 1
      ).byteCount == nil)
  }

  @Test func `a range is of whole words of the log, so none has fewer than 64 pages`() {
    let runs = [PlanWorld.range(3, 1), PlanWorld.range(70, 2), PlanWorld.range(256, 1)]
    let words = DeviceLogRanges(
      runs, pageSize: .fourKiB, granule: .words(of: .fourKiB), rangeCountMax: 8)
    #expect(words.ranges == [PlanWorld.range(0, 128), PlanWorld.range(256, 64)])
    #expect(words.gapByteCount == 188 << 12)
    let large = DeviceLogRanges(
      runs, pageSize: .fourKiB, granule: .words(of: .twoMiB), rangeCountMax: 8)
    #expect(large.ranges == [PlanWorld.range(0, 64 * 512)])
  }
}
