import Addressing
import IOVAMapping
import TestSupport
import Testing

/// What leaves note of their mappings, and what reads by it.
@Suite struct LeafEvennessTests {
  enum Fault { case none, forgetsAChange }

  private static let slots: UInt64 = 900
  private static let pages: UInt64 = 512

  private static func whole(_ slot: UInt64) -> IOVARange {
    MappingTableModelTests.range(slot * pages, pages)
  }

  /// Maps a slot as all of an even leaf are.
  private static func map(_ table: inout MappingTable, _ slot: UInt64) throws {
    try table.map(whole(slot), to: GPA(slot * pages << 12), permissions: .readWrite)
  }

  private static func table(slots: UInt64) throws -> MappingTable {
    var table = MappingTable(policy: .split)
    for slot in 0..<slots { try map(&table, slot) }
    return table
  }

  /// Pages of each mapping when all lie side by side, of one size and with the same permissions.
  private static func evenPages(_ mappings: some Collection<Mapping>) -> UInt64 {
    guard let first = mappings.first else { return 0 }
    let areEven = zip(mappings, mappings.dropFirst()).allSatisfy { one, next in
      one.iova.isFollowed(by: next.iova) && next.iova.lastOffset == first.iova.lastOffset
        && next.permissions == first.permissions
    }
    return areEven ? first.iova.pageCount(.fourKiB) : 0
  }

  private static func runs(_ mappings: [Mapping]) -> [Mapping] {
    var found: [Mapping] = []
    for mapping in mappings {
      if let last = found.last, last.iova.isFollowed(by: mapping.iova),
        last.gpa.isFollowed(by: mapping.gpa), last.permissions == mapping.permissions
      {
        found[found.count - 1] = Mapping(
          iova: AddressRange(first: last.iova.first, last: mapping.iova.last),
          gpaFirst: last.gpaFirst, permissions: last.permissions, generation: last.generation)
      } else {
        found.append(mapping)
      }
    }
    return found
  }

  /// - Returns: what a leaf notes, or the runs read by it, and `mappings` do not agree on.
  private static func difference(
    _ table: borrowing MappingTable, _ mappings: [Mapping]
  ) -> String? {
    var left = mappings[...]
    var found: String?
    _ = table.withPacked(from: IOVA(0), through: IOVA(.max), countMax: .max) { leaves in
      for index in leaves.indices {
        let expected = evenPages(left.prefix(Int(leaves[index].count)))
        if leaves[index].evenPageCount != expected {
          found = found ?? "at \(left.first?.iova.description ?? "the end"): not \(expected)"
        }
        left = left.dropFirst(Int(leaves[index].count))
      }
    }
    var runs: [Mapping] = []
    table.copyRuns(from: IOVA(0), through: IOVA(.max), into: &runs, countMax: .max)
    return found ?? (runs == Self.runs(mappings) ? nil : "\(runs.count) runs")
  }

  /// One change somewhere: a mapping goes, comes back with other permissions, of half the size, or
  /// elsewhere in GPA, or loses a part.
  private static func change(
    _ table: inout MappingTable, _ generator: inout SeededGenerator
  ) throws -> UInt64 {
    let slot = generator.below(slots)
    let first = slot * pages
    let half = MappingTableModelTests.range(first, pages / 2)
    if generator.once(in: 6) {
      try table.unmap(half)
      return slot
    }
    try table.unmap(whole(slot))
    switch generator.below(5) as UInt64 {
    case 0: break
    case 1: try table.map(whole(slot), to: GPA(first << 12), permissions: .read)
    case 2: try table.map(half, to: GPA(first << 12), permissions: .readWrite)
    case 3: try table.map(whole(slot), to: GPA((first + pages) << 12), permissions: .readWrite)
    default: try map(&table, slot)
    }
    return slot
  }

  private static func run(_ seed: UInt64, fault: Fault = .none) throws -> String? {
    var generator = SeededGenerator(seed: seed)
    var table = try table(slots: slots * 2 / 3)
    var mappings = MappingTableModelTests.all(table)
    var changed: [UInt64] = []
    for step in 0..<700 {
      if let difference = difference(table, mappings) { return "step \(step): \(difference)" }
      // Few at a time, and most of them undone, so that most leaves are even.
      if changed.count > 3 {
        for slot in changed {
          try table.unmap(whole(slot))
          try map(&table, slot)
        }
        changed = []
      }
      for _ in 0..<(1 + generator.below(3)) { changed.append(try change(&table, &generator)) }
      if fault == .none || step < 20 { mappings = MappingTableModelTests.all(table) }
    }
    table.checkInvariants()
    return nil
  }

  @Test func `what a leaf notes of its mappings is forgotten with each change`() throws {
    for seed in [TestSeed.seed(default: 61), 62, 63] {
      let difference = try Self.run(seed)
      #expect(difference == nil, "\(TestSeed.reproduce(seed, filter: "LeafEvennessTests"))")
    }
  }

  @Test func `the comparison notices mappings that are not as the table has them`() throws {
    #expect(try Self.run(61, fault: .forgetsAChange) != nil)
  }

  @Test func `mappings are not even when only the low half of their sizes agrees`() throws {
    var table = MappingTable()
    let large = 1 << 32 + Self.pages
    try Self.map(&table, 0)
    try table.map(
      MappingTableModelTests.range(Self.pages, large), to: GPA(Self.pages << 12),
      permissions: .readWrite)
    try table.map(
      MappingTableModelTests.range(Self.pages + large, large), to: GPA((Self.pages + large) << 12),
      permissions: .readWrite)
    table.checkInvariants()
    var runs: [Mapping] = []
    table.copyRuns(from: IOVA(0), through: IOVA(.max), into: &runs, countMax: .max)
    #expect(runs.map(\.iova) == [MappingTableModelTests.range(0, Self.pages + 2 * large)])
    // Alone, the large ones are even, but the note has no room for their size.
    try table.unmap(Self.whole(0))
    table.checkInvariants()
    try table.unmap(MappingTableModelTests.range(Self.pages, large))
    table.checkInvariants()
  }
}
