import Addressing
import IOVAMapping
import TestSupport
import Testing

/// What the table promises, one promise a test.
@Suite struct MappingTableRuleTests {
  static func range(_ firstPage: UInt64, _ pages: UInt64) -> IOVARange {
    MappingTableModelTests.range(firstPage, pages)
  }

  /// Everything that can be asked of a table, to show that nothing changed.
  struct Snapshot: Equatable {
    var mappings: [Mapping]
    var retired: [RetiredMapping] = []
    var generation: Generation
    var counts: [UInt64]

    init(_ table: borrowing MappingTable) {
      mappings = MappingTableModelTests.all(table)
      generation = table.generation
      counts = [UInt64(table.count), table.mappedPageCount, table.writablePageCount]
      var found: [RetiredMapping] = []
      _ = table.retired(since: Generation(0), overlapping: .wholeSpace) { found.append($0) }
      retired = found
    }
  }

  /// Pages 0-3, 4-5, hole, 8-9, at GPA page 0x100 on.
  static func table(_ policy: BisectPolicy, limit: Int = 100) throws -> MappingTable {
    var table = MappingTable(policy: policy, mappingCountMax: limit)
    for (first, pages) in [(0, 4), (4, 2), (8, 2)] as [(UInt64, UInt64)] {
      try table.map(
        range(first, pages), to: GPA((0x100 + first) << 12), permissions: .readWrite)
    }
    return table
  }

  @Test func `an overlap names both ranges and changes nothing`() throws {
    var table = try Self.table(.refuse)
    let before = Snapshot(table)
    for (wanted, hit) in [
      (Self.range(5, 2), Self.range(4, 2)), (Self.range(4, 2), Self.range(4, 2)),
      (Self.range(6, 3), Self.range(8, 2)), (Self.range(6, 100), Self.range(8, 2)),
    ] {
      do throws(MappingError) {
        try table.map(wanted, to: GPA(0), permissions: .read)
        Issue.record("\(wanted) was mapped")
      } catch {
        guard case .overlap(let new, let existing) = error else {
          Issue.record("\(error)")
          continue
        }
        #expect(new == wanted && existing.iova == hit)
        #expect(error.description.contains("\(wanted)") && error.description.contains("\(hit)"))
      }
    }
    #expect(Snapshot(table) == before)
  }

  @Test func `a map that breaks a rule is refused by name and changes nothing`() throws {
    var table = try Self.table(.split, limit: 3)
    let before = Snapshot(table)
    let odd = IOVARange(first: IOVA(0x20_0000), byteCount: 100)!
    let page = Self.range(0x200, 1)
    let wide = IOVARange(first: IOVA(1 << 60), byteCount: 1 << 53)!
    let cases: [(IOVARange, GPA, MappingError)] = [
      (odd, GPA(0), .unaligned(iova: odd, gpaFirst: GPA(0), pageSize: .fourKiB)),
      (page, GPA(7), .unaligned(iova: page, gpaFirst: GPA(7), pageSize: .fourKiB)),
      (wide, GPA(0), .mappingTooLarge(wide, byteCountMax: Limits.mappingByteCountMax)),
      (
        .wholeSpace, GPA(0),
        .mappingTooLarge(.wholeSpace, byteCountMax: Limits.mappingByteCountMax)
      ),
      (
        Self.range(0x200, 2), GPA(~0xfff),
        .gpaOverflow(Self.range(0x200, 2), gpaFirst: GPA(~0xfff))
      ),
      (page, GPA(0), .tooManyMappings(limit: 3)),
    ]
    for (iova, gpa, expected) in cases {
      #expect(throws: expected) { try table.map(iova, to: gpa, permissions: .read) }
    }
    #expect(Snapshot(table) == before)
  }

  @Test(arguments: [BisectPolicy.refuse, .split])
  func `unmap takes exact, spanning, holed and never-mapped ranges`(policy: BisectPolicy) throws {
    let shapes: [(IOVARange, [IOVARange])] = [
      (Self.range(4, 2), [Self.range(4, 2)]),
      (Self.range(0, 6), [Self.range(0, 4), Self.range(4, 2)]),
      (Self.range(4, 6), [Self.range(4, 2), Self.range(8, 2)]),
      (Self.range(6, 50), [Self.range(8, 2)]),
      (Self.range(6, 2), []), (Self.range(1000, 1), []),
      (.wholeSpace, [Self.range(0, 4), Self.range(4, 2), Self.range(8, 2)]),
    ]
    for (range, expected) in shapes {
      var table = try Self.table(policy)
      var removed: [Mapping] = []
      let result = try table.unmap(range) { removed.append($0) }
      #expect(removed.map(\.iova) == expected, "\(range)")
      #expect(result.mappingCount == expected.count)
      #expect(result.pageCount == expected.reduce(0) { $0 + $1.pageCount(.fourKiB) })
      #expect(result.generation.rawValue == (expected.isEmpty ? 3 : 4))
      #expect(removed.allSatisfy { $0.gpaFirst.rawValue == $0.iova.first.rawValue + 0x10_0000 })
      table.checkInvariants()
    }
  }

  @Test func `a cut is refused as a whole under refuse`() throws {
    var table = try Self.table(.refuse)
    let before = Snapshot(table)
    for range in [Self.range(1, 1), Self.range(0, 5), Self.range(3, 7), Self.range(9, 9)] {
      #expect(throws: MappingError.self) { try table.unmap(range) }
      #expect(throws: MappingError.self) { try table.canUnmap(range) }
    }
    #expect(Snapshot(table) == before)
  }

  @Test func `a cut keeps the parts outside, as old as they were, under split`() throws {
    var table = try Self.table(.split)
    var removed: [IOVARange] = []
    try table.unmap(Self.range(1, 2)) { removed.append($0.iova) }
    #expect(removed == [Self.range(1, 2)])
    let parts = MappingTableModelTests.all(table)
    #expect(
      parts.map(\.iova) == [
        Self.range(0, 1), Self.range(3, 1), Self.range(4, 2), Self.range(8, 2),
      ])
    #expect(parts[0].generation == parts[1].generation && parts[0].generation.rawValue == 1)
    #expect(parts[1].gpaFirst == GPA(0x103 << 12))
    table.checkInvariants()
  }

  @Test func `a cut in the middle needs room for one more, an odd cut is refused`() throws {
    var table = try Self.table(.split, limit: 3)
    let before = Snapshot(table)
    #expect(throws: MappingError.tooManyMappings(limit: 3)) { try table.unmap(Self.range(1, 1)) }
    let odd = IOVARange(first: IOVA(0x1000), byteCount: 10)!
    #expect(throws: MappingError.self) { try table.unmap(odd) }
    #expect(Snapshot(table) == before)
    // Cutting an end off needs no room.
    try table.unmap(Self.range(0, 1))
    #expect(table.count == 3)
  }

  @Test func `the last page of the space is a page like others`() throws {
    var table = MappingTable()
    let last = IOVARange(first: IOVA(~0xfff), last: IOVA(UInt64.max))
    let gpa = GPA(~0xfff)
    try table.map(last, to: gpa, permissions: .write)
    #expect(table.lookup(IOVA(UInt64.max))?.translate(IOVA(UInt64.max)) == GPA(UInt64.max))
    #expect(table.firstMapping(overlapping: last)?.iova == last)
    var runs: [IOVARange] = []
    table.forEachRun { runs.append($0) }
    #expect(runs == [last])
    var batch: [Mapping] = []
    #expect(
      table.copyMappings(from: IOVA(0), through: IOVA(UInt64.max), into: &batch, countMax: 9) == 1)
    #expect(try table.unmap(.wholeSpace).pageCount == 1)
    #expect(table.count == 0)
  }
}
