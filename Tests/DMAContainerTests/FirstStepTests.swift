import Addressing
import DMAContainer
import IOVAMapping
import TestSupport
import Testing

@Suite struct FirstStepTests {
  static let iommufdOfSmallEntries = DirtyLogCapabilities(
    scope: .iommuHardware, mayCrossHoles: false, mayCutMapping: true, canPeek: true, granule: .page)
  static let all = QueryPlanTests.all + [iommufdOfSmallEntries]

  /// One step after the other. Traps where a step does not get on.
  static func steps(
    _ plan: QueryPlan, _ table: borrowing MappingTable, in range: IOVARange = .wholeSpace,
    logged: [IOVARange] = [], target: UInt64 = .max, countMax: Int = 1 << 20
  ) -> [QueryPlan.Step] {
    var steps: [QueryPlan.Step] = []
    var place: IOVA? = range.first
    while let from = place {
      let first = plan.firstStep(
        table, from: from, through: range.last, logged: logged, bitmapByteCountTarget: target,
        mappingCountMax: countMax)
      if let step = first.step { steps.append(step) }
      if let next = first.next { precondition(next > from, "a step gets on") }
      place = first.next
    }
    return steps
  }

  /// Sentences; empty when all is well.
  static func problems(
    _ world: PlanWorld, _ table: borrowing MappingTable, _ plan: QueryPlan, logged: [IOVARange],
    target: UInt64, countMax: Int
  ) -> [String] {
    let steps = Self.steps(plan, table, logged: logged, target: target, countMax: countMax)
    var problems = QueryPlanTests.checker(world, plan, logged: logged).problems(steps)
    // A window has at least one granule, which has at most 64 pages here.
    for window in QueryPlanTests.windows(steps)
    where (window.lastOffset >> 12) / 8 >= max(8, target) {
      let isOneMapping = world.mappings.contains { $0.iova == window }
      if !isOneMapping { problems.append("window \(window) is larger than wanted") }
    }
    if countMax > world.mappings.count, target >= plan.bitmapByteCountMax {
      let whole = plan.steps(table, logged: logged)
      if plan.capabilities.mayCutMapping {
        let windows = QueryPlanTests.windows(whole).count
        if QueryPlanTests.windows(steps).count > windows { problems.append("more than \(windows)") }
      } else if steps != whole {
        problems.append("\(steps) are not \(whole)")
      }
    }
    return problems
  }

  @Test(arguments: all)
  func `step after step a random table is asked for whole, by the rules of the log`(
    capabilities: DirtyLogCapabilities
  ) throws {
    let seed = TestSeed.seed(default: 1205)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<100 {
      let world = PlanWorld.random(&random)
      let table = try world.table()
      var logged: [IOVARange] = []
      var page = random.below(100 as UInt64)
      while page < 600, capabilities.rangeCountMax != nil {
        let pages = 1 + random.below(200 as UInt64)
        logged.append(PlanWorld.range(page, pages))
        page += pages + random.below(60 as UInt64)
      }
      let plan = QueryPlan(
        capabilities, pageSize: .fourKiB, bitmapByteCountMax: UInt64(8 * (1 + random.below(6))))
      let problems = Self.problems(
        world, table, plan, logged: logged,
        target: random.once(in: 2) ? .max : UInt64(8 * (1 + random.below(4))),
        countMax: random.once(in: 2) ? 1 << 20 : 1 + random.below(8))
      if !problems.isEmpty {
        Issue.record("\(problems) \(TestSeed.reproduce(seed, filter: "FirstStepTests"))")
        return
      }
    }
  }

  @Test(arguments: all)
  func `step after step every table of five blocks is asked for whole`(
    capabilities: DirtyLogCapabilities
  ) throws {
    let whole = [PlanWorld.range(0, 320)]
    let holed = [PlanWorld.range(32, 64), PlanWorld.range(128, 100)]
    var failures = 0
    try PlanWorld.every(blocks: 5) { world in
      let table = try world.table()
      for bytes in [8, 16, 64] as [UInt64] {
        let plan = QueryPlan(capabilities, pageSize: .fourKiB, bitmapByteCountMax: bytes)
        for logged in [whole, holed] {
          for (target, countMax) in [(.max, 1 << 20), (8, 1 << 20), (.max, 1)] as [(UInt64, Int)] {
            failures +=
              Self.problems(
                world, table, plan, logged: logged, target: target, countMax: countMax
              ).isEmpty ? 0 : 1
          }
          if capabilities.rangeCountMax == nil { break }
        }
      }
    }
    #expect(failures == 0)
  }

  /// What lies in the table from the first step to the last is asked for, whatever comes and goes
  /// around it meanwhile.
  @Test(arguments: all)
  func `a mapping that stays is asked for, though the table changes between two steps`(
    capabilities: DirtyLogCapabilities
  ) throws {
    let seed = TestSeed.seed(default: 1206)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<100 {
      let world = PlanWorld.random(&random)
      var table = try world.table(policy: .split)
      var kept = Set(world.mappings.filter(\.isWritable).flatMap(Self.pages))
      let plan = QueryPlan(capabilities, pageSize: .fourKiB, bitmapByteCountMax: 32)
      let logged = [PlanWorld.range(0, 700)]
      var place: IOVA? = IOVA(0)
      var asked: Set<UInt64> = []
      while let from = place {
        let first = plan.firstStep(
          table, from: from, through: .init(UInt64.max), logged: logged,
          bitmapByteCountTarget: 8, mappingCountMax: 1 + random.below(20))
        switch first.step {
        case .window(let range)?, .unqueryable(let range, _)?: asked.formUnion(Self.pages(range))
        case nil: break
        }
        place = first.next
        let range = PlanWorld.range(random.below(600 as UInt64), 1 + random.below(30 as UInt64))
        try table.unmap(range)
        kept.subtract(Self.pages(range))
        if random.once(in: 2) { try table.map(range, to: GPA(0), permissions: .readWrite) }
      }
      let lost = kept.subtracting(asked)
      if !lost.isEmpty {
        Issue.record("\(lost) \(TestSeed.reproduce(seed, filter: "FirstStepTests"))")
        return
      }
    }
  }

  static func pages(_ mapping: Mapping) -> [UInt64] { pages(mapping.iova) }
  static func pages(_ range: IOVARange) -> [UInt64] {
    Array((range.first.rawValue >> 12)...(range.last.rawValue >> 12))
  }

  @Test func `a tebibyte in mappings of 2 MiB is one step of type1, found at once`() throws {
    var table = MappingTable(retiredCountMax: 0)
    for index in 0..<(1 << 19) as Range<UInt64> {
      try table.map(
        PlanWorld.range(index << 9, 512), to: GPA(index << 21), permissions: .readWrite)
    }
    let whole = PlanWorld.range(0, 1 << 28)
    let type1 = QueryPlan(QueryPlanTests.type1, pageSize: .fourKiB)
    #expect(Self.steps(type1, table, countMax: 4) == [.window(whole)])
    // Whether smaller windows are worth it knows who measures what they take.
    #expect(Self.steps(type1, table, target: 4096, countMax: 4).count == 1 << 13)
    let iommufd = QueryPlan(QueryPlanTests.iommufd, pageSize: .fourKiB)
    #expect(Self.steps(iommufd, table, countMax: 1 << 13) == [.window(whole)])
    #expect(Self.steps(iommufd, table, target: 4096, countMax: 1 << 13).count == 1 << 13)
    let device = QueryPlan(QueryPlanTests.deviceLog, pageSize: .fourKiB)
    let logged = [PlanWorld.range(0, 1 << 30)]
    #expect(Self.steps(device, table, logged: logged, countMax: 1 << 11) == [.window(whole)])
  }

  @Test func `sixty thousand mappings of type1 take at most four steps`() throws {
    var random = SeededGenerator(seed: 60)
    var table = MappingTable(retiredCountMax: 0)
    var page: UInt64 = 1 << 20
    for _ in 0..<60_000 {
      page += 1 + random.below(4096 as UInt64)
      try table.map(PlanWorld.range(page, 1), to: GPA(page << 12), permissions: .readWrite)
    }
    let plan = QueryPlan(QueryPlanTests.type1, pageSize: .fourKiB)
    let steps = Self.steps(plan, table, countMax: 64)
    #expect(steps.count <= 4)
    #expect(steps == plan.steps(table))
  }

  @Test func `mappings that may not be written end the search in bounded work`() throws {
    var table = MappingTable(retiredCountMax: 0)
    for index in 0..<1000 as Range<UInt64> {
      try table.map(
        PlanWorld.range(index, 1), to: GPA(index << 12),
        permissions: index == 999 ? .readWrite : .read)
    }
    for capabilities in Self.all {
      let plan = QueryPlan(capabilities, pageSize: .fourKiB)
      let first = plan.firstStep(
        table, from: IOVA(0), through: IOVA(UInt64.max), logged: [.wholeSpace],
        mappingCountMax: 100)
      #expect(first == FirstStep(step: nil, next: IOVA(100 << 12)))
      let steps = Self.steps(plan, table, logged: [.wholeSpace], countMax: 100)
      let granule = plan.capabilities.granule.size(startedWith: .fourKiB)
      #expect(steps == [.window(PlanWorld.range(999, 1).expanded(to: granule))])
    }
  }

  @Test func `a part smaller than a page of the query is asked for by whole pages`() throws {
    let twoMiB = PageSizeSet(.twoMiB)
    var capabilities = Self.iommufdOfSmallEntries
    capabilities.pageSizes = twoMiB
    var table = MappingTable(pageSize: .twoMiB, retiredCountMax: 0)
    let mapped = PlanWorld.range(0, 4096)
    try table.map(mapped, to: GPA(0), permissions: .readWrite)
    let plan = QueryPlan(capabilities, pageSize: .twoMiB)
    let part = PlanWorld.range(513, 1)
    let wanted = [QueryPlan.Step.window(PlanWorld.range(512, 512))]
    #expect(plan.steps(table, in: part) == wanted)
    #expect(Self.steps(plan, table, in: part) == wanted)
  }

  /// Pages of a query that are larger than those of the mappings may hold parts of several.
  @Test func `large query pages are asked for once, step after step`() throws {
    let seed = TestSeed.seed(default: 1207)
    var random = SeededGenerator(seed: seed)
    let pageSize = try #require(PageSize(bytes: 16 << 10))
    for _ in 0..<100 {
      let world = PlanWorld.random(&random)
      let table = try world.table()
      let logged = [PlanWorld.range(0, 400), PlanWorld.range(404, 400)]
      for capabilities in Self.all {
        let plan = QueryPlan(capabilities, pageSize: pageSize, bitmapByteCountMax: 16)
        let steps = Self.steps(
          plan, table, logged: logged, target: random.once(in: 2) ? 8 : .max,
          countMax: 1 + random.below(40))
        var covered: [UInt64: Int] = [:]
        for step in steps {
          switch step {
          case .window(let range):
            #expect(range.isAligned(to: pageSize))
            for page in Self.pages(range) { covered[page, default: 0] += 1 }
          case .unqueryable(let range, _):
            for page in Self.pages(range) { covered[page, default: 0] += 1 }
          }
        }
        for mapping in world.mappings where mapping.isWritable {
          for page in Self.pages(mapping.iova) { #expect(covered[page] == 1) }
        }
      }
    }
  }
}
