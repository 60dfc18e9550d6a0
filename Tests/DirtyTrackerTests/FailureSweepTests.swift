import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

/// Sessions in which backend calls fail. No page is lost; what each refusal says of the mappings is
/// so in table and backend; and everything works again once nothing fails any more.
@Suite struct FailureSweepTests {
  /// One session under faults.
  /// - Returns: what is wrong, empty when nothing is.
  private static func flaws(_ world: World, seed: UInt64, steps: Int) -> [String] {
    var (flaws, failures) = ([String](), 0)
    var last = NaiveTracker()
    let lost = Session.run(world, seed: seed, steps: steps) { model in
      last = model
      // Asking the backend takes long, and only a failure makes it differ.
      guard world.faults.failedCount != failures, flaws.isEmpty else { return }
      failures = world.faults.failedCount
      if let difference = model.difference(world) { flaws.append(difference) }
    }
    if !lost.isEmpty { flaws.append("pages \(lost) are lost") }
    if let difference = last.difference(world) { flaws.append(difference) }
    return flaws + world.flawsAfterRecovery()
  }

  private static func reproduce(_ seed: UInt64) -> String {
    TestSeed.reproduce(seed, filter: "FailureSweepTests")
  }

  /// Fails the 1st, 2nd, ... backend call of a migration.
  @Test(arguments: ContainerKind.allCases, FaultPlan.Moment.allCases)
  func `whichever backend call fails, no written page is lost`(
    kind: ContainerKind, moment: FaultPlan.Moment
  ) throws {
    let seed = TestSeed.seed(default: 9)
    let healthy = try World(kind)
    #expect(Session.run(healthy, seed: seed, steps: 80).isEmpty, "\(Self.reproduce(seed))")
    let calls = healthy.faults.callCount
    #expect(calls > 20)
    #expect(healthy.flawsAfterRecovery() == [])
    for ordinal in 1...calls {
      let fault = FaultPlan.Fault(nil, ordinal: ordinal, errno: ContainerErrno.eio, moment: moment)
      let world = try World(kind, faultingFrom: [fault])
      let flaws = Self.flaws(world, seed: seed, steps: 80)
      #expect(flaws == [], "call \(ordinal) failed \(moment), \(Self.reproduce(seed))")
    }
  }

  /// Two failures, the second soon after the first: in what is done about it.
  @Test(arguments: ContainerKind.allCases, FaultPlan.Moment.allCases)
  func `a second failure while the first is dealt with loses no page`(
    kind: ContainerKind, moment: FaultPlan.Moment
  ) throws {
    let base = TestSeed.seed(default: 300)
    for seed in base..<base + 24 {
      var random = SeededGenerator(seed: seed)
      let moments = FaultPlan.Moment.allCases
      let first = 1 + random.below(40)
      let faults = [0, 1 + random.below(3)].map {
        FaultPlan.Fault(
          nil, ordinal: first + $0, errno: ContainerErrno.eio,
          moment: $0 == 0 ? moment : moments[random.below(moments.count)])
      }
      let world = try World(kind, faultingFrom: faults)
      #expect(
        Self.flaws(world, seed: seed, steps: 80) == [], "\(faults), \(Self.reproduce(seed))")
    }
  }

  @Test(arguments: ContainerKind.allCases, FaultPlan.Moment.allCases)
  func `a backend that fails for good makes everything dirty, not nothing`(
    kind: ContainerKind, moment: FaultPlan.Moment
  ) throws {
    let seed = TestSeed.seed(default: 21)
    for operation in [
      ContainerError.Operation.startLog, .stopLog, .query, .map, .unmap, .unmapWithDirty,
    ] {
      let fault = FaultPlan.Fault(
        operation, ordinal: 1, errno: ContainerErrno.eio, moment: moment, isLasting: true)
      let world = try World(kind, faultingFrom: [fault])
      let flaws = Self.flaws(world, seed: seed, steps: 200)
      #expect(flaws == [], "\(operation) failed \(moment), \(Self.reproduce(seed))")
    }
  }

  @Test func `the check notices a table that holds more than the backend, and a page left clean`()
    throws
  {
    let world = try World(.iommufd, startsDirty: false)
    var model = NaiveTracker()
    model.map(1, 2, to: 3, .readWrite, world.refusalToMap(1, 2, to: 3), world)
    #expect(model.difference(world) == nil)
    world.faults.reset([.init(.map, ordinal: 1, errno: ContainerErrno.enomem)])
    model.map(8, 1, to: 3, .readWrite, nil, world)
    #expect(model.difference(world) != nil)
    model.mapped[8] = nil
    world.start()
    let error = ContainerError(.unmap, object: "x", errno: ContainerErrno.eio)
    model.unmap(1, 2, .unmapFailed(error), world)
    #expect(model.difference(world)?.contains("clean") == true)
  }
}
