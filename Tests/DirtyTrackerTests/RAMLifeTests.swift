import Addressing
import DMAContainer
import DirtyTracker
import Simulation
import TestSupport
import Testing

/// Random changes of RAM and address spaces while backend calls fail: each refusal is held against
/// what it promises of table, backend and log.
@Suite struct RAMLifeTests {
  @Test(arguments: FaultPlan.Moment.allCases)
  func `RAM that comes and goes is mapped, tracked and in the log as each refusal says`(
    moment: FaultPlan.Moment
  ) throws {
    let base = TestSeed.seed(default: 510)
    var refusalCount = 0
    for seed in base..<base + 16 {
      let life = try RAMLife(seed: seed)
      let flaws = life.run(steps: 120, failing: moment)
      refusalCount += life.refusalCount
      #expect(
        flaws == [], "\(moment), \(TestSeed.reproduce(seed, filter: "RAMLifeTests"))")
    }
    // Otherwise there were no promises to be held.
    #expect(refusalCount > 40)
  }

  @Test func `the check notices RAM that a container has lost, has kept, and a wrong promise`()
    throws
  {
    func life() throws -> RAMLife {
      let life = try RAMLife(seed: 1)
      life.perform(.add(region: 0))
      #expect(life.difference == nil)
      return life
    }
    let lost = try life()
    _ = try lost.sides[0].container.unmap(World.iova(0, RAMLife.regionPages))
    #expect(lost.difference?.contains("leads to") == true)
    let kept = try life()
    kept.discarded = [3]
    #expect(kept.difference?.contains("page 3 is mapped") == true)
    let promised = try life()
    promised.sides[1].faults.reset([.init(.unmap, ordinal: 1, errno: ContainerErrno.eio)])
    promised.learn(.discard(first: 2, count: 1), nil, [])
    #expect(promised.difference?.contains("page 2 is mapped") == true)
  }
}
