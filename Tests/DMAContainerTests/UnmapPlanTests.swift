import Addressing
import DMAContainer
import IOVAMapping
import TestSupport
import Testing

@Suite struct UnmapPlanTests {
  static func checker(
    _ world: PlanWorld, _ plan: UnmapPlan, _ range: IOVARange
  ) -> PlanChecker {
    PlanChecker(
      mappings: world.mappings.compactMap { $0.clipped(to: range) }, range: range,
      writableOnly: false, mayCrossHoles: true,
      mayCutMapping: plan.capabilities.bisectPolicy == .split,
      byteCountMax: plan.bitmapByteCountMax)
  }

  @Test(arguments: [BisectPolicy.refuse, .split])
  func `chunks hold every mapping of the range once and nothing outside it`(
    policy: BisectPolicy
  ) throws {
    let seed = TestSeed.seed(default: 242)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<150 {
      let world = PlanWorld.random(&random)
      let table = try world.table(policy: policy)
      let first = random.below(500 as UInt64)
      let range = PlanWorld.range(first, 1 + random.below(400 as UInt64))
      let plan = UnmapPlan(
        ContainerCapabilities(
          bisectPolicy: policy, unmapBitmapByteCountMax: UInt64(8 * (1 + random.below(6)))),
        pageSize: .fourKiB)
      let steps = plan.steps(table, in: range)
      var problems = Self.checker(world, plan, range).problems(steps)
      for case .window(let window) in steps where !range.contains(window) {
        problems.append("chunk \(window) leaves \(range)")
      }
      if !problems.isEmpty {
        Issue.record("\(problems) \(TestSeed.reproduce(seed, filter: "UnmapPlanTests"))")
        return
      }
      #expect(
        Self.checker(world, plan, range).problems(Array(steps.dropLast())) != [] || steps.isEmpty)
    }
  }

  @Test func `the whole space is a few chunks and no mapping is none`() throws {
    var world = PlanWorld()
    let plan = UnmapPlan(ContainerCapabilities(hasAtomicUnmap: true), pageSize: .fourKiB)
    let empty = try world.table()
    #expect(plan.steps(empty, in: .wholeSpace) == [])
    world.map(0, 10, .readWrite)
    world.map(20, 10, .read)
    world.map(1 << 40, 10, .readWrite)
    let table = try world.table()
    #expect(
      plan.steps(table, in: .wholeSpace) == [
        .window(PlanWorld.range(0, 30)), .window(PlanWorld.range(1 << 40, 10)),
      ])
  }

  @Test func `a mapping past the largest bitmap is cut only where the container may cut`() throws {
    var world = PlanWorld()
    world.map(0, 100, .readWrite)
    let table = try world.table()
    let range = PlanWorld.range(0, 100)
    var capabilities = ContainerCapabilities(unmapBitmapByteCountMax: 8)
    #expect(
      UnmapPlan(capabilities, pageSize: .fourKiB).steps(table, in: range) == [
        .unqueryable(range, .tooLarge)
      ])
    capabilities.bisectPolicy = .split
    #expect(
      UnmapPlan(capabilities, pageSize: .fourKiB).steps(table, in: range) == [
        .window(PlanWorld.range(0, 64)), .window(PlanWorld.range(64, 36)),
      ])
  }
}
