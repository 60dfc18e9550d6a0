import Addressing
import DMAContainer
import DeviceMigration
import Simulation
import TestSupport
import Testing

/// Fails one thing of a migration that succeeds, wherever it is, and looks at what is left.
@Suite struct SampleFailureTests {
  private func make() throws -> SampleWorld {
    try SampleWorld(seed: 11, memoryMiB: 1, stepsPerEvent: 12)
  }

  /// Succeeded with everything there; or failed by name, with a guest that runs on and migrates.
  private func check(_ world: SampleWorld, _ what: String) throws {
    let outcome = world.migrate()
    guard let error = outcome.source else {
      #expect(world.differences == [], "\(what)")
      return
    }
    #expect("\(error)".count > 40, "\(what): \(error)")
    #expect(world.leftovers == [], "\(what): \(error)")
    let second = try world.migrateAgain()
    #expect(second == nil, "\(what): a second attempt")
    #expect(world.differences == [], "\(what): a second attempt")
  }

  /// Every ordinal up to `count`, or as many evenly spread ones as `limit` allows.
  private func ordinals(_ count: Int, limit: Int) -> [Int] {
    guard count > limit else { return Array(1...max(1, count)) }
    return (0..<limit).map { 1 + $0 * (count - 1) / (limit - 1) }
  }

  @Test(arguments: FaultPlan.Moment.allCases)
  func `whichever backend call fails, no page is lost`(moment: FaultPlan.Moment) throws {
    let healthy = try make()
    #expect(healthy.migrate().source == nil)
    let calls = healthy.faults.callCount
    #expect(calls > 50)
    for ordinal in ordinals(calls, limit: 24) {
      let world = try make()
      world.faults.add(
        FaultPlan.Fault(nil, ordinal: ordinal, errno: ContainerErrno.eio, moment: moment))
      try check(world, "backend call \(ordinal) of \(calls), \(moment)")
      #expect(world.differences == [])
    }
  }

  @Test(arguments: [
    DeviceFault.refuse(.eio), .failAfterwards(.eio), .breakDown(.eio), .lie,
  ])
  func `whichever call of a device fails, the guest runs on or has arrived`(
    fault: DeviceFault
  ) throws {
    let healthy = try make()
    let before = healthy.deviceFaults.callCount
    #expect(healthy.migrate().source == nil)
    let calls = healthy.deviceFaults.callCount - before
    #expect(calls > 20)
    for ordinal in ordinals(calls, limit: 16) {
      let world = try make()
      world.deviceFaults.plan(fault, afterCalls: ordinal - 1)
      try check(world, "device call \(ordinal) of \(calls), \(fault)")
    }
  }

  @Test(arguments: [DeviceFault.refuse(.eio), .breakDown(.eio)])
  func `whichever call of a device at the destination fails, the guest runs on`(
    fault: DeviceFault
  ) throws {
    let healthy = try make()
    let before = healthy.destinationFaults.callCount
    #expect(healthy.migrate().source == nil)
    let calls = healthy.destinationFaults.callCount - before
    #expect(calls > 10)
    for ordinal in ordinals(calls, limit: 12) {
      let world = try make()
      world.destinationFaults.plan(fault, afterCalls: ordinal - 1)
      try check(world, "destination's device call \(ordinal) of \(calls), \(fault)")
    }
  }

  @Test func `whichever write to the channel fails, the guest runs on and migrates again`() throws {
    let healthy = try make()
    #expect(healthy.migrate().source == nil)
    let writes = healthy.writeCount
    #expect(writes > 50)
    for ordinal in ordinals(writes, limit: 30) {
      let world = try make()
      world.failingWrite = ordinal
      try check(world, "write \(ordinal) of \(writes)")
    }
  }
}
