import Addressing
import DMAContainer
import IOVAMapping
import PageBitmap
import TestSupport
import Testing

@Suite struct QueryPlanTests {
  static let type1 = DirtyLogCapabilities(
    scope: .pinned, mayCrossHoles: true, mayCutMapping: false, canPeek: false, granule: .page)
  static let iommufd = DirtyLogCapabilities(
    scope: .iommuHardware, mayCrossHoles: false, mayCutMapping: false, canPeek: true, granule: .page
  )
  static let deviceLog = DirtyLogCapabilities(
    scope: .deviceLog, mayCrossHoles: true, mayCutMapping: true, canPeek: false, granule: .page,
    rangeCountMax: Limits.deviceLogRangeCountMax, isAskedAfterUnmap: true)
  static let deviceWords = granular(DirtyLogGranule(pageCount: 4, pageSize: .fourKiB))
  static let all = [type1, iommufd, deviceLog, deviceWords, granular(.words(of: .fourKiB))]

  static func granular(_ granule: DirtyLogGranule) -> DirtyLogCapabilities {
    var capabilities = deviceLog
    capabilities.granule = granule
    return capabilities
  }

  static func checker(
    _ world: PlanWorld, _ plan: QueryPlan, logged: [IOVARange]
  ) -> PlanChecker {
    PlanChecker(
      mappings: world.mappings,
      logged: plan.capabilities.rangeCountMax == nil ? nil : logged,
      mayCrossHoles: plan.capabilities.mayCrossHoles,
      mayCutMapping: plan.capabilities.mayCutMapping, byteCountMax: plan.bitmapByteCountMax,
      granulePages: plan.capabilities.granule.size(startedWith: .fourKiB).bytes >> 12)
  }

  static func windows(_ steps: [QueryPlan.Step]) -> [IOVARange] {
    steps.compactMap { if case .window(let window) = $0 { window } else { nil } }
  }

  @Test(arguments: all)
  func `random tables are asked for whole, by the rules of the log`(
    capabilities: DirtyLogCapabilities
  ) throws {
    let seed = TestSeed.seed(default: 241)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<150 {
      let world = PlanWorld.random(&random)
      let table = try world.table()
      var logged: [IOVARange] = []
      if capabilities.rangeCountMax != nil {
        var page = random.below(100 as UInt64)
        while page < 600 {
          let pages = 1 + random.below(200 as UInt64)
          logged.append(PlanWorld.range(page, pages))
          page += pages + random.below(60 as UInt64)
        }
      }
      let bytes = UInt64(8 * (1 + random.below(6)))
      // One of the two is the smaller: what the log answers, or what its caller has room for.
      let isLogs = random.once(in: 2)
      var limited = capabilities
      limited.queryBitmapByteCountMax = isLogs ? bytes : 1 << 20
      let plan = QueryPlan(
        limited, pageSize: .fourKiB, bitmapByteCountMax: isLogs ? 1 << 20 : bytes)
      let steps = plan.steps(table, logged: logged)
      var checker = Self.checker(world, plan, logged: logged)
      checker.byteCountMax = bytes
      let problems = checker.problems(steps)
      if !problems.isEmpty {
        Issue.record("\(problems) \(TestSeed.reproduce(seed, filter: "QueryPlanTests"))")
        return
      }
      if !capabilities.mayCutMapping {
        #expect(Self.windows(steps).count == checker.fewestWindows())
      }
    }
  }

  @Test(arguments: all)
  func `every table of five blocks is asked for whole, in the fewest windows`(
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
          let steps = plan.steps(table, logged: logged)
          let checker = Self.checker(world, plan, logged: logged)
          if !checker.problems(steps).isEmpty { failures += 1 }
          if !capabilities.mayCutMapping,
            Self.windows(steps).count != checker.fewestWindows()
          {
            failures += 1
          }
          if capabilities.rangeCountMax == nil { break }
        }
      }
    }
    #expect(failures == 0)
  }

  @Test func `the checker notices a lost step, a cut mapping and a crossed hole`() throws {
    var world = PlanWorld()
    world.map(0, 10, .readWrite)
    world.map(10, 10, .readWrite)
    world.map(30, 10, .readWrite)
    let table = try world.table()
    let plan = QueryPlan(Self.iommufd, pageSize: .fourKiB)
    let checker = Self.checker(world, plan, logged: [])
    let steps = plan.steps(table)
    #expect(steps == [.window(PlanWorld.range(0, 20)), .window(PlanWorld.range(30, 10))])
    #expect(checker.problems(steps) == [])
    #expect(checker.problems(Array(steps.dropLast())) != [])
    #expect(checker.problems(steps + [steps[1]]) != [])
    #expect(checker.problems([.window(PlanWorld.range(0, 40))]) != [])
    #expect(
      checker.problems([
        .window(PlanWorld.range(0, 15)), .window(PlanWorld.range(15, 5)), steps[1],
      ]) != [])
    #expect(
      checker.problems([steps[0], .unqueryable(PlanWorld.range(30, 10), .tooLarge)]) != [])
  }

  @Test func `windows are whole words counted from the beginning of the logged range`() throws {
    var world = PlanWorld()
    world.map(10, 1, .readWrite)
    world.map(80, 1, .readWrite)
    world.map(1 << 20, 1, .readWrite)
    let table = try world.table()
    let plan = QueryPlan(Self.granular(.words(of: .fourKiB)), pageSize: .fourKiB)
    let logged = [PlanWorld.range(5, 128), PlanWorld.range(1 << 20 - 10, 40)]
    #expect(
      plan.steps(table, logged: logged) == [
        .window(PlanWorld.range(5, 128)), .window(PlanWorld.range(1 << 20 - 10, 40)),
      ])
    // What is asked after an unmap as well.
    #expect(
      plan.steps(table, in: PlanWorld.range(80, 1), logged: logged) == [
        .window(PlanWorld.range(69, 64))
      ])
    let checker = Self.checker(world, plan, logged: logged)
    #expect(checker.problems([.window(PlanWorld.range(10, 71))]) != [])
    let large = QueryPlan(Self.granular(.words(of: .twoMiB)), pageSize: .fourKiB)
    let whole = PlanWorld.range(0, 1 << 30)
    #expect(
      large.steps(table, in: PlanWorld.range(80, 1), logged: [whole]) == [
        .window(PlanWorld.range(0, 64 * 512))
      ])
  }

  @Test func `sixty thousand mappings of type1 take at most four calls`() throws {
    var random = SeededGenerator(seed: 60)
    var table = MappingTable(retiredCountMax: 0)
    var page: UInt64 = 1 << 20
    for _ in 0..<60_000 {
      page += 1 + random.below(4096 as UInt64)
      try table.map(PlanWorld.range(page, 1), to: GPA(page << 12), permissions: .readWrite)
    }
    let plan = QueryPlan(Self.type1, pageSize: .fourKiB)
    let count = Self.windows(plan.steps(table)).count
    #expect(count <= 4)
    let runs = Self.windows(QueryPlan(Self.iommufd, pageSize: .fourKiB).steps(table)).count
    #expect(runs > 50_000)
  }

  @Test func `a hole of a tebibyte is not paid for, a small one is`() throws {
    var world = PlanWorld()
    world.map(0, 1, .readWrite)
    world.map(100, 1, .readWrite)
    world.map(1 << 28, 1, .readWrite)
    let table = try world.table()
    let steps = QueryPlan(Self.type1, pageSize: .fourKiB).steps(table)
    #expect(steps == [.window(PlanWorld.range(0, 101)), .window(PlanWorld.range(1 << 28, 1))])
  }

  /// Cost of a plan: a call's worth for each window and the bitmaps of the gaps inside them.
  @Test func `no other cut of the gaps costs less`() throws {
    var random = SeededGenerator(seed: 9)
    for _ in 0..<50 {
      var world = PlanWorld()
      var page: UInt64 = 0
      var gaps: [UInt64] = []
      for index in 0..<12 {
        let gap = random.below(1 << 20 as UInt64)
        if index > 0 { gaps.append(gap) }
        world.map(page + gap, 1, .readWrite)
        page += gap + 1
      }
      let table = try world.table()
      let plan = QueryPlan(Self.type1, pageSize: .fourKiB)
      let call = plan.gapBitmapByteCountMax(mappingCount: 12)
      let windows = Self.windows(plan.steps(table))
      var cost = UInt64(windows.count) * call
      for window in windows {
        let inside = world.mappings.filter { window.contains($0.iova) }.count
        cost += (window.pageCount(.fourKiB) - UInt64(inside)) / 8
      }
      let best = gaps.reduce(call) { $0 + min($1 / 8, call) }
      #expect(cost <= best + 12 && best <= cost + 12)
    }
  }

  @Test func `a mapping past the largest bitmap is named and its neighbours are asked for`() throws
  {
    var world = PlanWorld()
    world.map(0, 10, .readWrite)
    world.map(10, 65, .readWrite)
    world.map(75, 10, .readWrite)
    let table = try world.table()
    let type1 = QueryPlan(Self.type1, pageSize: .fourKiB, bitmapByteCountMax: 8)
    #expect(
      type1.steps(table) == [
        .window(PlanWorld.range(0, 10)), .unqueryable(PlanWorld.range(10, 65), .tooLarge),
        .window(PlanWorld.range(75, 10)),
      ])
    let device = QueryPlan(Self.deviceLog, pageSize: .fourKiB, bitmapByteCountMax: 8)
    #expect(
      device.steps(table, logged: [PlanWorld.range(0, 1000)]) == [
        .window(PlanWorld.range(0, 10)), .window(PlanWorld.range(10, 64)),
        .window(PlanWorld.range(74, 11)),
      ])
  }

  @Test func `read-only mappings are neither asked for nor a reason to stop`() throws {
    var world = PlanWorld()
    world.map(0, 10, .read)
    world.map(10, 10, .readWrite)
    world.map(20, 10, .read)
    world.map(30, 10, .readWrite)
    world.map(40, 10, .read)
    world.map(60, 10, .read)
    let table = try world.table()
    for capabilities in [Self.type1, Self.iommufd] {
      let steps = QueryPlan(capabilities, pageSize: .fourKiB).steps(table)
      #expect(steps == [.window(PlanWorld.range(10, 30))])
    }
  }

  @Test func `a part of the table asks for whole mappings, a device log for the part`() throws {
    var world = PlanWorld()
    world.map(0, 10, .readWrite)
    world.map(10, 10, .readWrite)
    let table = try world.table()
    let part = PlanWorld.range(15, 1)
    #expect(
      QueryPlan(Self.type1, pageSize: .fourKiB).steps(table, in: part) == [
        .window(PlanWorld.range(10, 10))
      ])
    #expect(
      QueryPlan(Self.deviceLog, pageSize: .fourKiB).steps(
        table, in: part, logged: [PlanWorld.range(0, 100)]) == [.window(part)])
  }

  @Test func `mappings up to the last address are asked for, and query pages may be larger`() throws
  {
    var table = MappingTable(retiredCountMax: 0)
    let top = IOVARange(first: IOVA(0xffff_ffff_ffff_f000), last: IOVA(UInt64.max))
    try table.map(top, to: GPA(0), permissions: .readWrite)
    #expect(QueryPlan(Self.iommufd, pageSize: .fourKiB).steps(table) == [.window(top)])
    #expect(
      QueryPlan(Self.iommufd, pageSize: .twoMiB).steps(table) == [.unqueryable(top, .unaligned)])
    #expect(
      QueryPlan(Self.deviceLog, pageSize: .twoMiB).steps(table, logged: [.wholeSpace]) == [
        .window(top.expanded(to: .twoMiB))
      ])
  }

  /// Pages of a query that are larger than those of the mappings may hold parts of several.
  @Test func `large query pages are asked for once, whoever shares them`() throws {
    let seed = TestSeed.seed(default: 244)
    var random = SeededGenerator(seed: seed)
    let pageSize = try #require(PageSize(bytes: 16 << 10))
    for _ in 0..<100 {
      let world = PlanWorld.random(&random)
      let table = try world.table()
      let logged = [PlanWorld.range(0, 400), PlanWorld.range(404, 400)]
      let plan = QueryPlan(Self.deviceLog, pageSize: pageSize, bitmapByteCountMax: 8)
      var covered: [UInt64: Int] = [:]
      for step in plan.steps(table, logged: logged) {
        switch step {
        case .window(let window):
          #expect(window.isAligned(to: pageSize) && logged.contains { $0.contains(window) })
          for page in 0..<window.pageCount(.fourKiB) {
            covered[(window.first.rawValue >> 12) + page, default: 0] += 1
          }
        case .unqueryable(let range, let reason):
          #expect(reason == .notLogged)
          for page in 0..<range.pageCount(.fourKiB) {
            covered[(range.first.rawValue >> 12) + page, default: 0] += 1
          }
        }
      }
      for mapping in world.mappings where mapping.isWritable {
        for page in 0..<mapping.iova.pageCount(.fourKiB) {
          #expect(covered[(mapping.iova.first.rawValue >> 12) + page] == 1)
        }
      }
    }
  }
}
