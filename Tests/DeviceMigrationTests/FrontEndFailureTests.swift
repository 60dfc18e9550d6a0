import DeviceMigration
import GuestDirtyLog
import TestSupport
import Testing

/// A call fails, the first, the second, … the last of a migration that succeeds. Afterwards one
/// side runs, never both, and the same objects migrate again.
@Suite struct FrontEndFailureTests {
  private static func world(_ seed: UInt64) -> FrontEndWorld {
    let world = FrontEndWorld(seed: seed, pageCount: 6)
    world.policy.notConverging = .stopAnyway(afterRounds: 2)
    world.policy.harvestPageCountMax = 3
    world.writesPerEvent = 1
    return world
  }

  /// What is wrong after call `number` failed; nil when there is no such call.
  private static func problems(failing number: Int, seed: UInt64) -> [String]? {
    let world = world(seed)
    world.plan.failAt = number
    let first = world.migrate()
    guard let failed = world.plan.failed else {
      return first.source == nil ? nil : ["it failed without a fault: \(first.source!)"]
    }
    if first.source == nil {
      // After the guest was gone: a device did not stop, or an answer was not sent.
      return world.sourceMachine.isRunning == world.destinationMachine.isRunning
        ? ["\(failed): both run, or none"]
        : world.sourceMemory.differingPages(world.destinationMemory).map { "page \($0) differs" }
    }
    if world.source.isOutcomeUnknown {
      if world.sourceMachine.isRunning { return ["\(failed): the source runs, not knowing"] }
      let destinationRuns = world.destinationMachine.isRunning
      _ = world.source.resolve(destinationRuns: destinationRuns)
      if destinationRuns { return world.differences }
    }
    var problems = world.leftovers.map { "\(failed): \($0)" }
    let second = world.migrate()
    if let error = second.source { problems.append("\(failed), then: \(error)") }
    return problems + world.differences.map { "\(failed), then: \($0)" }
  }

  @Test func `whichever call fails, one side runs and a second attempt succeeds`() {
    let seed = TestSeed.seed(default: 21)
    var number = 1
    while let problems = Self.problems(failing: number, seed: seed) {
      let hint = TestSeed.reproduce(seed, filter: "FrontEndFailureTests")
      #expect(problems == [], "call \(number), \(hint)")
      number += 1
    }
    // Or the sweep was no sweep.
    #expect(number > 100)
  }

  @Test func `the check finds a device that was left behind`() {
    let world = Self.world(22)
    world.sourceDevices[2].recoversInNameOnly = true
    world.sourceDevices[1].lastDMA = { [unowned world] in world.plan.failAt = world.plan.count + 1 }
    #expect(world.migrate().source != nil)
    #expect(world.leftovers.isEmpty)
    world.sourceDevices[1].lastDMA = nil
    world.onEvent = { [unowned world] event in
      if case .status(.device) = event { world.source.cancellation.cancel(because: "now") }
    }
    #expect(world.migrate().source != nil)
    #expect(world.leftovers == ["plain at the source is in STOP_COPY"])
  }

  @Test func `an error says what failed, where, and what became of each device`() throws {
    let world = Self.world(23)
    world.sourceDevices[1].lastDMA = { [unowned world] in world.plan.failAt = world.plan.count + 1 }
    let error = try #require(world.migrate().source)
    #expect(error.phase == .stopAndCopy)
    #expect(error.aftermath.devices.map(\.device) == ["v1", "full", "plain", "precopy"])
    #expect(error.aftermath.devices.allSatisfy { !$0.isLost })
    #expect(error.aftermath.vcpusResumed)
    #expect(
      error.description.hasPrefix(
        "migration failed in stop-and-copy: device full: enterP2P failed with EIO."))
    #expect(error.description.contains("the guest runs on here"))
  }

  @Test func `cancelled at any event, the guest runs on and can migrate later`() {
    var number = 0
    while true {
      let world = Self.world(24)
      var seen = 0
      world.onEvent = { [unowned world] _ in
        if seen == number { world.source.cancellation.cancel(because: "the operator said so") }
        seen += 1
      }
      let errors = world.migrate()
      world.onEvent = nil
      if errors.source == nil { break }
      guard case .cancelled(let reason)? = errors.source?.cause else {
        Issue.record("event \(number): \(errors.source!)")
        break
      }
      #expect(reason == "the operator said so")
      #expect(world.source.report.status == .cancelled)
      #expect(world.leftovers == [], "event \(number)")
      #expect(world.migrate().source == nil)
      #expect(world.differences == [], "event \(number)")
      number += 1
    }
    #expect(number > 20)
  }

  @Test func `cancel between two rounds puts pages back and recovers the devices`() throws {
    let world = Self.world(25)
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    try world.source.begin(over: link.source)
    _ = try world.source.round()
    let consumerSeesAll = try world.tracking.log.addConsumer("watcher", startsDirty: false)
    let aftermath = world.source.cancel(because: "by hand")
    #expect(aftermath.devices.count == 4 && aftermath.vcpusResumed)
    #expect(world.tracking.log.inFlightPageCount(for: consumerSeesAll) == 0)
    world.tracking.log.removeConsumer(consumerSeesAll)
    #expect(world.leftovers == [])
    #expect(world.source.phase == .idle)
    #expect(throws: MigrationError.self) { try world.destination.receive(from: link.destination) }
  }

  @Test func `pages that were not delivered come back to the log`() throws {
    let world = Self.world(26)
    let watcher = try world.tracking.log.addConsumer("watcher", startsDirty: false)
    world.writesPerEvent = 0
    // The write of the first pages: after stream start, hello and round mark.
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    world.onEvent = { [unowned world] event in
      if case .roundBegan = event { world.plan.failAt = world.plan.count + 2 }
    }
    let error = #expect(throws: MigrationError.self) { try world.source.run(over: link.source) }
    #expect(error?.aftermath.pagesPutBack == 3)
    #expect(world.tracking.log.dirtyPageCount(for: watcher) == 3)
    #expect(world.tracking.log.pagesBySource[.putBack] == 3)
  }

  @Test func `a paused guest migrates, and after a failure it is paused again`() {
    let world = Self.world(27)
    world.sourceMachine.isRunning = false
    for device in world.sourceDevices { try? device.stop() }
    world.plan.failAt = world.plan.count + 60
    let errors = world.migrate()
    #expect(errors.source != nil)
    #expect(!world.sourceMachine.isRunning)
    #expect(world.sourceDevices.allSatisfy { $0.state == .stop })
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
  }

  @Test func `a VM that is resumed after its devices stopped ends the migration`() {
    let world = Self.world(28)
    world.onEvent = { [unowned world] event in
      if case .status(.device) = event {
        #expect(throws: Never.self) { try world.source.vmStateChanged(.running) }
        world.sourceMachine.isRunning = true
      }
    }
    let errors = world.migrate()
    #expect(errors.source?.cause == .resumedMeanwhile)
    #expect(world.leftovers == [])
  }

  @Test func `a VMM that says cancelled is obeyed`() {
    let world = Self.world(29)
    world.onEvent = { [unowned world] event in
      if case .roundEnded = event { world.source.migrationStateChanged(.cancelled) }
    }
    let errors = world.migrate()
    guard case .cancelled? = errors.source?.cause else {
      Issue.record("\(String(describing: errors.source))")
      return
    }
    #expect(world.leftovers == [])
  }
}
