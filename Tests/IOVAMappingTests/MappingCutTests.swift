import Addressing
import IOVAMapping
import TestSupport
import Testing

/// What a cut says before an unmap, and that the unmap does it.
@Suite struct MappingCutTests {
  enum Fault { case none, forgetsWhatStays, makesKeptPartsYounger }

  /// A table with its model; the table holds at most `limit` mappings.
  struct Pair: ~Copyable {
    var table: MappingTable
    var model: NaiveTable
    let limit: Int
    var fault = Fault.none

    init(_ policy: BisectPolicy, limit: Int, fault: Fault = .none) {
      table = MappingTable(policy: policy, mappingCountMax: limit)
      model = NaiveTable(policy: policy)
      self.limit = limit
      self.fault = fault
    }

    mutating func map(_ range: IOVARange, to gpa: GPA) -> String? {
      let isFull = model.mappings.count >= limit
      let got = (try? table.map(range, to: gpa, permissions: .readWrite)) != nil
      let expected = !isFull && model.map(range, to: gpa, permissions: .readWrite)
      return got == expected ? nil : "map \(range): \(got)"
    }

    /// By way of a cut, that has to say what comes of it.
    mutating func unmap(_ range: IOVARange) -> String? {
      let cut = table.cut(range)
      let expected = model.cut(range, mappingCountMax: limit)
      if cut.map(NaiveCut.init) != expected { return "cut \(range): \(cut as Any)" }
      if cut?.range ?? range != range { return "cut \(range) of another range" }
      guard let cut else { return nil }
      let before = table.count
      var removed: [Mapping] = []
      let result = try? table.unmap(cut) { removed.append($0) }
      let gone = model.unmap(range, mappingCountMax: limit)
      if (result == nil) != (gone == nil) { return "unmap \(range): \(result as Any)" }
      if result == nil, table.count != before { return "unmap \(range) was refused, and cut" }
      if let gone, gone != removed { return "unmap \(range) removed \(removed)" }
      if let result, result.mappingCount != removed.count { return "\(range): \(result)" }
      if result != nil, table.count > before + cut.addedMappingCount { return "\(range): grew" }
      plant(cut, result)
      return nil
    }

    /// What a wrong table would hold then, told to the model.
    private mutating func plant(_ cut: MappingCut, _ result: UnmapResult?) {
      guard result != nil, let right = cut.right else { return }
      switch fault {
      case .none: break
      case .forgetsWhatStays: model.mappings.removeAll { $0.iova == right.iova }
      case .makesKeptPartsYounger:
        for index in model.mappings.indices where model.mappings[index].iova == right.iova {
          model.mappings[index] = Mapping(
            iova: right.iova, gpaFirst: right.gpaFirst, permissions: right.permissions,
            generation: Generation(model.generation))
        }
      }
    }

    var agrees: Bool {
      table.checkInvariants()
      return MappingTableModelTests.all(table) == model.mappings
        && table.generation.rawValue == model.generation
    }
  }

  static let ranges: [IOVARange] = (0..<4 as Range<UInt64>).flatMap { first in
    (first..<4).map { MappingTableModelTests.range(first, $0 - first + 1) }
  }

  /// Every sequence of two maps and two unmaps over four pages.
  static func firstDifference(_ policy: BisectPolicy, limit: Int, fault: Fault = .none) -> String? {
    for one in ranges {
      for two in ranges {
        for three in ranges {
          for four in ranges {
            var pair = Pair(policy, limit: limit, fault: fault)
            let steps = [
              pair.map(one, to: GPA(0x10_0000)), pair.map(two, to: GPA(0x20_0000)),
              pair.unmap(three), pair.unmap(four),
            ]
            if let difference = steps.compactMap({ $0 }).first { return difference }
            if !pair.agrees { return "\(one), \(two), \(three), \(four)" }
          }
        }
      }
    }
    return nil
  }

  @Test(arguments: [BisectPolicy.refuse, .split], [1, 2, 100])
  func `every cut over four pages says what the unmap does`(policy: BisectPolicy, limit: Int) {
    let difference = Self.firstDifference(policy, limit: limit)
    #expect(difference == nil)
  }

  static func run(_ seed: UInt64, _ policy: BisectPolicy, fault: Fault = .none) -> String? {
    var random = SeededGenerator(seed: seed)
    let worldPages: UInt64 = random.once(in: 2) ? 60 : 3000
    var pair = Pair(policy, limit: random.once(in: 3) ? 20 : 1 << 20, fault: fault)
    for count in 0..<3000 {
      let first = random.below(worldPages)
      // Over many leaves now and then.
      let most = random.once(in: 200) ? worldPages : random.once(in: 30) ? 300 : 8
      let range = MappingTableModelTests.range(
        first, 1 + random.below(min(most, worldPages - first)))
      let difference =
        random.once(in: 3) ? pair.unmap(range) : pair.map(range, to: GPA(range.first.rawValue))
      if let difference { return "step \(count): \(difference)" }
      if count % 100 == 0, !pair.agrees { return "step \(count)" }
    }
    return pair.agrees ? nil : "at the end"
  }

  @Test(arguments: [BisectPolicy.refuse, .split])
  func `random cuts say what the unmap does`(policy: BisectPolicy) {
    for seed in [TestSeed.seed(default: 51), 52, 53, 54, 55, 56] {
      let difference = Self.run(seed, policy)
      #expect(difference == nil, "\(TestSeed.reproduce(seed, filter: "MappingCutTests"))")
    }
  }

  @Test(arguments: [Fault.forgetsWhatStays, .makesKeptPartsYounger])
  func `the comparison notices a kept part that is forgotten or made younger`(fault: Fault) {
    let differences = (
      Self.firstDifference(.split, limit: 100, fault: fault), Self.run(51, .split, fault: fault)
    )
    #expect(differences.0 != nil && differences.1 != nil)
  }

  @Test func `the table in full refuses a cut in the middle before anything changes`() throws {
    var table = MappingTable(policy: .split, mappingCountMax: 2)
    try table.map(
      MappingTableModelTests.range(0, 8), to: GPA(0), permissions: .readWrite)
    try table.map(
      MappingTableModelTests.range(100, 8), to: GPA(100 << 12), permissions: .readWrite)
    let middleFound = table.cut(MappingTableModelTests.range(103, 1))
    let middle = try #require(middleFound)
    #expect(middle.refusal == .tooManyMappings(limit: 2) && middle.addedMappingCount == 1)
    #expect(throws: MappingError.tooManyMappings(limit: 2)) { try table.unmap(middle) }
    #expect(table.count == 2 && table.generation == Generation(2))
    // An end may be cut off, and all of it may go.
    let endFound = table.cut(MappingTableModelTests.range(103, 5))
    let end = try #require(endFound)
    #expect(end.refusal == nil && end.addedMappingCount == 0)
    let allFound = table.cut(.wholeSpace)
    let all = try #require(allFound)
    #expect(all.refusal == nil && all.hull.first == IOVA(0) && !all.isOne)
    try table.unmap(all)
    #expect(table.count == 0)
  }

  @Test func `a cut of a table that has changed since is a caller's mistake`() async {
    await #expect(processExitsWith: .failure) {
      var table = MappingTable(policy: .split)
      try table.map(
        MappingTableModelTests.range(0, 8), to: GPA(0), permissions: .readWrite)
      guard let cut = table.cut(MappingTableModelTests.range(0, 1)) else { return }
      try table.unmap(MappingTableModelTests.range(7, 1))
      try table.unmap(cut)
    }
  }
}
