import Addressing
import IOVAMapping
import TestSupport
import Testing

@Suite struct MappingTableModelTests {
  static func range(_ first: UInt64, _ pages: UInt64) -> IOVARange {
    IOVARange(first: IOVA(first << 12), byteCount: pages << 12)!
  }

  static func all(_ table: borrowing MappingTable) -> [Mapping] {
    var found: [Mapping] = []
    table.forEach(in: .wholeSpace) { mapping in found.append(mapping) }
    return found
  }

  /// Does one random thing to both and compares what came of it.
  static func step(
    _ table: inout MappingTable, _ model: inout NaiveTable, _ random: inout SeededGenerator,
    worldPages: UInt64
  ) -> String? {
    let first = random.below(worldPages)
    let range = range(first, 1 + random.below(min(8, worldPages - first)))
    if random.once(in: 2) {
      let gpa = GPA(random.below(1 << 20) << 12)
      let permissions = Permissions(rawValue: UInt8(1 + random.below(3)))
      let expected = model.map(range, to: gpa, permissions: permissions)
      let got = (try? table.map(range, to: gpa, permissions: permissions)) != nil
      return got == expected ? nil : "map \(range): \(got)"
    }
    var removed: [Mapping] = []
    let expected = model.unmap(range)
    let result = try? table.unmap(range) { removed.append($0) }
    if (result == nil) != (expected == nil) { return "unmap \(range): \(result as Any)" }
    if let expected, expected != removed { return "unmap \(range) removed \(removed)" }
    return nil
  }

  @Test(arguments: [BisectPolicy.refuse, .split], [64, 4096] as [UInt64])
  func `random maps and unmaps agree with the model`(policy: BisectPolicy, worldPages: UInt64) {
    let seed = TestSeed.seed(default: 20 + worldPages)
    var random = SeededGenerator(seed: seed)
    var table = MappingTable(policy: policy)
    var model = NaiveTable(policy: policy)
    for count in 0..<4000 {
      let difference = Self.step(&table, &model, &random, worldPages: worldPages)
      if let difference {
        Issue.record("step \(count): \(difference)")
        Issue.record("\(TestSeed.reproduce(seed, filter: "MappingTableModelTests"))")
        return
      }
      if count % 64 == 0 {
        #expect(Self.all(table) == model.mappings)
        #expect(table.generation.rawValue == model.generation)
        table.checkInvariants()
      }
    }
    #expect(Self.all(table) == model.mappings)
    #expect(table.count == model.mappings.count)
    let pages = model.mappings.reduce(0) { $0 + $1.iova.pageCount(.fourKiB) }
    #expect(table.mappedPageCount == pages)
    let address = random.below(worldPages) << 12
    #expect(
      table.lookup(IOVA(address)) == model.mappings.first { $0.iova.contains(IOVA(address)) })
  }

  @Test func `the comparison notices a model that forgets a mapping`() {
    var random = SeededGenerator(seed: 5)
    var table = MappingTable()
    var model = NaiveTable(policy: .refuse)
    var noticed = false
    for _ in 0..<400 where !noticed {
      noticed = Self.step(&table, &model, &random, worldPages: 32) != nil
      if random.once(in: 10), !model.mappings.isEmpty { model.mappings.removeLast() }
    }
    #expect(noticed)
  }

  /// Every sequence of four events over four pages.
  @Test(arguments: [BisectPolicy.refuse, .split])
  func `every short sequence over four pages agrees with the model`(policy: BisectPolicy) {
    var ranges: [IOVARange] = []
    for first in 0..<4 as Range<UInt64> {
      for last in first..<4 { ranges.append(Self.range(first, last - first + 1)) }
    }
    let events = ranges.count * 2
    for code in 0..<(events * events * events * events) {
      var table = MappingTable(policy: policy)
      var model = NaiveTable(policy: policy)
      var rest = code
      for _ in 0..<4 {
        let event = rest % events
        rest /= events
        let range = ranges[event / 2]
        if event % 2 == 0 {
          let gpa = GPA(range.first.rawValue + 0x10_0000)
          let expected = model.map(range, to: gpa, permissions: .readWrite)
          let got = (try? table.map(range, to: gpa, permissions: .readWrite)) != nil
          if got != expected { Issue.record("sequence \(code): map \(range)") }
        } else {
          let expected = model.unmap(range)
          let got = try? table.unmap(range)
          if (got == nil) != (expected == nil) { Issue.record("sequence \(code): unmap \(range)") }
        }
      }
      if Self.all(table) != model.mappings { Issue.record("sequence \(code)") }
    }
  }

  @Test func `many leaves in random order stay in order and close together`() throws {
    var random = SeededGenerator(seed: 77)
    var table = MappingTable()
    var pages = Set<UInt64>()
    while pages.count < 20_000 { pages.insert(random.below(1 << 22)) }
    for page in pages.shuffled(using: &random) {
      try table.map(Self.range(page, 1), to: GPA(page << 12), permissions: .readWrite)
    }
    table.checkInvariants()
    #expect(Self.all(table).map { $0.iova.first.rawValue >> 12 } == pages.sorted())
    #expect(table.allocatedByteCount / table.count <= 34)
    for page in pages.shuffled(using: &random) {
      #expect(try table.unmap(Self.range(page, 1)).mappingCount == 1)
    }
    table.checkInvariants()
    #expect(table.count == 0 && table.mappedPageCount == 0 && table.writablePageCount == 0)
  }
}
