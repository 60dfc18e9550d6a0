import Addressing
import IOVAMapping
import TestSupport
import Testing

/// A long unmap in pieces, while others map and unmap between them.
@Suite struct MappingPieceTests {
  enum Fault { case none, takesYoungerMappings }

  static func range(_ first: UInt64, _ pages: UInt64) -> IOVARange {
    MappingTableModelTests.range(first, pages)
  }

  /// The pieces of a table that does not change.
  static func pieces(
    _ table: borrowing MappingTable, _ range: IOVARange, countMax: Int,
    notAfter generation: Generation
  ) -> [MappingPiece] {
    var found: [MappingPiece] = []
    var from: IOVA? = range.first
    while let first = from {
      let piece = table.piece(
        from: first, through: range.last, countMax: countMax, notAfter: generation)
      found.append(piece)
      from = piece.next
    }
    return found
  }

  @Test func `pieces name all mappings of an age, in order, at most so many at a time`() throws {
    let seed = TestSeed.seed(default: 71)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<200 {
      var table = MappingTable(policy: .split)
      var model = NaiveTable(policy: .split)
      for _ in 0..<(1 + random.below(400)) {
        _ = MappingTableModelTests.step(&table, &model, &random, worldPages: 900)
      }
      let first = random.below(900 as UInt64)
      let range =
        random.once(in: 3)
        ? IOVARange.wholeSpace : Self.range(first, 1 + random.below(500 as UInt64))
      let generation = Generation(random.below(model.generation + 1))
      let countMax = 1 + random.below(9)
      let pieces = Self.pieces(table, range, countMax: countMax, notAfter: generation)
      let expected = model.pieces(range, countMax: countMax, notAfter: generation)
      let held = pieces.filter { $0.hull != nil }
      let again = Comment(rawValue: TestSeed.reproduce(seed, filter: "MappingPieceTests"))
      #expect(held.map(\.mappingCount) == expected.map(\.count), again)
      #expect(
        held.map(\.hull)
          == expected.map { mappings in
            AddressRange(first: mappings.first!.iova.first, last: mappings.last!.iova.last)
              .intersection(range)
          }, again)
      #expect(pieces.allSatisfy { $0.mappingCount <= countMax }, again)
      // An empty piece has looked at as many.
      #expect(pieces.count <= model.mappings.count / countMax + 1 + expected.count, again)
    }
  }

  /// An unmap of everything in pieces, with a step of somebody else after each piece.
  ///
  /// - Returns: what is mapped at the end, in table and model.
  static func unmapInPieces(
    _ setup: [(IOVARange, isMap: Bool)], between: [(IOVARange, isMap: Bool)], countMax: Int,
    fault: Fault = .none
  ) throws -> (table: [Mapping], model: [Mapping]) {
    var table = MappingTable(policy: .split)
    var model = NaiveTable(policy: .split)
    func apply(
      _ step: (IOVARange, isMap: Bool), _ table: inout MappingTable, _ model: inout NaiveTable
    ) {
      if step.isMap {
        let gpa = GPA(step.0.first.rawValue + model.generation << 24)
        _ = try? table.map(step.0, to: gpa, permissions: .readWrite)
        _ = model.map(step.0, to: gpa, permissions: .readWrite)
      } else {
        _ = try? table.unmap(step.0)
        _ = model.unmap(step.0)
      }
    }
    for step in setup { apply(step, &table, &model) }
    let beginning = fault == .takesYoungerMappings ? Generation(.max) : table.generation
    let old = table.generation
    var from: IOVA? = IOVA(0)
    var steps = between[...]
    while let first = from {
      let piece = table.piece(
        from: first, through: IOVA(.max), countMax: countMax, notAfter: beginning)
      if let hull = piece.hull {
        try table.unmap(hull)
        // The model keeps what is younger, whatever the piece says.
        let younger = model.mappings.filter { $0.generation > old && $0.iova.overlaps(hull) }
        _ = model.unmap(hull)
        model.mappings.removeAll { kept in younger.contains { $0.iova.overlaps(kept.iova) } }
        model.mappings = (model.mappings + younger).sorted { $0.iova.first < $1.iova.first }
      }
      from = piece.next
      if let step = steps.popFirst() { apply(step, &table, &model) }
    }
    // What must be there: all that was made since, and nothing that was there before.
    return (MappingTableModelTests.all(table), model.mappings.filter { $0.generation > old })
  }

  static let steps: [(IOVARange, isMap: Bool)] =
    MappingCutTests.ranges.flatMap { [($0, true), ($0, false)] }

  /// Every world of two maps, every two steps between the pieces.
  static func firstDifference(_ fault: Fault = .none) throws -> String? {
    for one in steps where one.isMap {
      for two in steps where two.isMap {
        for three in steps {
          for four in steps {
            for countMax in [1, 2] {
              let (table, model) = try unmapInPieces(
                [one, two], between: [three, four], countMax: countMax, fault: fault)
              if table != model { return "\(one), \(two), then \(three), \(four): \(table)" }
            }
          }
        }
      }
    }
    return nil
  }

  @Test func `an unmap in pieces removes what was mapped when it began, and nothing younger`()
    throws
  {
    let difference = try Self.firstDifference()
    #expect(difference == nil)
  }

  @Test func `the comparison notices an unmap that takes what was mapped since`() throws {
    let difference = try Self.firstDifference(.takesYoungerMappings)
    #expect(difference != nil)
  }

  @Test func `a piece that ends with the address space is the last`() throws {
    var table = MappingTable(policy: .split)
    try table.map(
      IOVARange(first: IOVA(~0xfff), last: IOVA(.max)), to: GPA(0), permissions: .read)
    let piece = table.piece(
      from: IOVA(0), through: IOVA(.max), countMax: 1, notAfter: table.generation)
    #expect(piece.hull?.last == IOVA(.max) && piece.mappingCount == 1 && piece.next == nil)
    let none = table.piece(
      from: IOVA(0), through: IOVA(5), countMax: 1, notAfter: table.generation)
    #expect(none.hull == nil && none.mappingCount == 0 && none.next == nil)
  }
}
