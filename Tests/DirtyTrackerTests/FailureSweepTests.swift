import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

@Suite struct FailureSweepTests {
  /// Fails the 1st, 2nd, ... backend call of a migration; after each no page may be missing.
  @Test(arguments: ContainerKind.allCases, FaultPlan.Moment.allCases)
  func `whichever backend call fails, no written page is lost`(
    kind: ContainerKind, moment: FaultPlan.Moment
  ) throws {
    let healthy = try World(kind)
    #expect(Session.run(healthy, seed: 9, steps: 80).isEmpty)
    let calls = healthy.faults.callCount
    #expect(calls > 20)
    for ordinal in 1...calls {
      let fault = FaultPlan.Fault(nil, ordinal: ordinal, errno: ContainerErrno.eio, moment: moment)
      let world = try World(kind, faultingFrom: [fault])
      let lost = Session.run(world, seed: 9, steps: 80)
      #expect(lost.isEmpty, "call \(ordinal) failed \(moment): \(lost)")
      #expect(world.faults.failedCount >= 1 || ordinal > world.faults.callCount)
    }
  }

  @Test(arguments: ContainerKind.allCases, FaultPlan.Moment.allCases)
  func `a backend that fails for good makes everything dirty, not nothing`(
    kind: ContainerKind, moment: FaultPlan.Moment
  ) throws {
    for operation in [
      ContainerError.Operation.startLog, .stopLog, .query, .unmap, .unmapWithDirty,
    ] {
      let fault = FaultPlan.Fault(
        operation, ordinal: 1, errno: ContainerErrno.eio, moment: moment, isLasting: true)
      let world = try World(kind, faultingFrom: [fault])
      let lost = Session.run(world, seed: 21, steps: 200)
      #expect(lost.isEmpty, "\(operation) failed \(moment): \(lost)")
    }
  }
}
