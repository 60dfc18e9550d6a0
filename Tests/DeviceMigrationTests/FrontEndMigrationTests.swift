import Addressing
import DeviceMigration
import GuestDirtyLog
import TestSupport
import Testing

@Suite struct FrontEndMigrationTests {
  @Test func `a guest that writes all the while arrives whole, from any seed`() {
    let seed = TestSeed.seed(default: 11)
    for offset in 0..<25 {
      let world = FrontEndWorld(seed: seed &+ UInt64(offset), pageCount: 8 + offset)
      world.policy.harvestPageCountMax = UInt64(1 + offset % 9)
      world.policy.harvestRunCountMax = 1 + offset % 4
      world.policy.rehearsedSendFailureCount = offset % 3
      world.writesPerEvent = offset % 5
      let errors = world.migrate()
      let hint = TestSeed.reproduce(seed &+ UInt64(offset), filter: "FrontEndMigrationTests")
      #expect(errors.source == nil && errors.destination == nil, "\(hint)")
      #expect(world.differences == [], "\(hint)")
    }
  }

  @Test func `a final sync that is left out shows as pages that differ`() {
    let world = FrontEndWorld(seed: 3, forgetsFinalSync: true)
    _ = world.migrate()
    #expect(world.differences.contains { $0.hasPrefix("page") })
  }

  @Test func `a put-back that is left out shows as pages that differ`() {
    let broken = FrontEndWorld(seed: 4)
    broken.omitting = [.putBack]
    broken.writesPerEvent = 0
    _ = broken.migrate()
    #expect(broken.differences.contains { $0.hasPrefix("page") })

    let whole = FrontEndWorld(seed: 4)
    whole.policy.rehearsedSendFailureCount = 1
    whole.writesPerEvent = 0
    _ = whole.migrate()
    #expect(whole.differences == [])
    #expect(whole.source.report.pagesPutBack > 0)
  }

  @Test func `a page reported dirty after the final sync is sent all the same`() {
    let world = FrontEndWorld(seed: 6)
    world.onEvent = { [unowned world] event in
      guard case .roundEnded(let round, _) = event, round.isFinal else { return }
      world.reportLate(page: 2)
    }
    let errors = world.migrate()
    #expect(errors.source == nil && errors.destination == nil)
    #expect(world.differences == [])
    #expect(world.source.report.rounds.last?.remainingBytesAtEnd == 0)
  }

  @Test func `a guest that is written to without end after its stop runs on at the source`() {
    let world = FrontEndWorld(seed: 7)
    var latePasses: Int?
    world.onEvent = { [unowned world] event in
      guard !world.sourceMachine.isRunning, !world.destinationMachine.isRunning else { return }
      if case .roundEnded(let round, _) = event, round.isFinal { latePasses = 0 }
      if case .progress = event {
        latePasses = latePasses.map { $0 + 1 }
        world.reportLate(page: 2)
      }
    }
    let errors = world.migrate()
    guard case .writtenAfterStop(pages: 1)? = errors.source?.cause else {
      Issue.record("\(errors.source as Any)")
      return
    }
    // The guest stands still meanwhile.
    #expect(latePasses == 8)
    #expect(world.leftovers == [])
    world.onEvent = nil
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
  }

  @Test func `steps come in the order of the state-change table`() throws {
    let world = FrontEndWorld(seed: 5)
    _ = world.migrate()
    let journal = world.plan.journal
    func all(_ step: String) -> [Int] {
      journal.indices.filter { journal[$0].hasSuffix(" " + step) }
    }
    let stop = try #require(journal.firstIndex(of: "source stopVCPUs"))
    let final = try #require(journal.firstIndex(of: "tracking final sync"))
    let resumed = try #require(journal.firstIndex(of: "destination resumeVCPUs"))
    #expect(all("enterP2P").count == 4 && all("beginStopCopy").count == 4)
    #expect(all("enterP2P").allSatisfy { stop < $0 && $0 < all("beginStopCopy").min()! })
    #expect(all("beginStopCopy").allSatisfy { $0 < final })
    #expect(journal.lastIndex(of: "tracking final sync") == final)
    #expect(all("prepareToRun").max()! < all("run").min()!)
    #expect(all("run").max()! < resumed)
    #expect(resumed < all("finishSaving").min()!)
    #expect(all("restoreState").max()! < all("prepareToRun").min()!)
  }

  @Test func `a VMM whose notifiers are wired sees the same migration`() {
    let world = FrontEndWorld(seed: 6)
    world.sourceMachine.notifier = { [unowned world] state in
      #expect(throws: Never.self) { try world.source.vmStateChanged(state) }
    }
    let errors = world.migrate()
    #expect(errors.source == nil)
    #expect(world.differences == [])
    #expect(world.plan.journal.filter { $0.hasSuffix("enterP2P") }.count == 4)
  }

  @Test func `states pass as the table says, for each kind of device`() {
    let world = FrontEndWorld(seed: 7)
    _ = world.migrate()
    let states = world.source.report.devices.map(\.states)
    #expect(states[0] == [.running, .precopy, .stopCopy, .stop])
    #expect(states[1] == [.running, .precopy, .precopyP2P, .stopCopy, .stop])
    #expect(states[2] == [.running, .runningP2P, .stopCopy, .stop])
    #expect(world.source.report.devices[1].precopyBytes == 250)
    #expect(world.source.report.devices[1].stopCopyBytes == 50)
    #expect(world.source.report.devices[2].precopyBytes == 0)
  }

  /// It is a command to the firmware of some devices.
  @Test func `the size of all that is left is asked once a round and device`() {
    let world = FrontEndWorld(seed: 7)
    #expect(world.migrate().source == nil)
    let rounds = world.source.report.rounds.count
    for device in world.sourceDevices {
      #expect((1...rounds).contains(device.estimateCount), "\(device.name)")
    }
  }

  @Test func `a one-way stream is written first and read later`() throws {
    let world = FrontEndWorld(seed: 8)
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    let report = try world.source.run(over: link.source)
    let received = try world.destination.receive(from: link.destination)
    #expect(world.differences == [])
    #expect(report.totals == received.totals)
    #expect(report.streamBytes == received.streamBytes)
    #expect(report.streamBytes == UInt64(link.toDestination.count))
  }

  @Test func `each blocker is named and nothing has been touched`() {
    let world = FrontEndWorld(seed: 9)
    world.policy.wantsPostcopy = true
    world.policy.guestUsesPeerToPeer = true
    world.tracking.block("RAM is larger than the bitmap of container nic")
    let errors = world.migrate()
    #expect(
      world.source.blockers == [
        .postcopyRequested, .noP2P(device: "v1", others: 3),
        .tracking("RAM is larger than the bitmap of container nic"),
      ])
    guard case .blocked(let found)? = errors.source?.cause else {
      Issue.record("it was not blocked")
      return
    }
    #expect(found == world.source.blockers)
    #expect(world.plan.journal.allSatisfy { $0.hasPrefix("memory, destination") })
    #expect(world.leftovers == [])
  }

  @Test func `devices that can not migrate are named`() {
    let plan = CallPlan()
    let mute = ScriptedDevice("mute", .none(reason: "no v2 interface"), contents: [], plan: plan)
    let alone = ScriptedDevice("alone", .v1, contents: [], plan: plan)
    let memory = ArrayMemory(pageCount: 1)
    func find(_ devices: [MigratingDevice]) -> [MigrationBlocker] {
      MigrationBlocker.find(
        devices: devices, regions: [memory.region], trackingBlockers: [], policy: .init())
    }
    #expect(find([MigratingDevice(alone)]) == [])
    #expect(
      find([MigratingDevice(mute)]) == [.noInterface(device: "mute", reason: "no v2 interface")])
    #expect(
      find([MigratingDevice(alone), MigratingDevice(alone)]) == [
        .noP2P(device: "alone", others: 1), .deviceNameTaken("alone"),
        .noP2P(device: "alone", others: 1),
      ])
    let other = ScriptedDevice("other", .v2(FrontEndWorld.all), contents: [], plan: plan)
    #expect(find([MigratingDevice(alone, startsPeerToPeer: false), MigratingDevice(other)]) == [])
    #expect(
      MigrationBlocker.find(devices: [], regions: [], trackingBlockers: [], policy: .init())
        == [.noRAM])
  }

  @Test func `a destination with another guest refuses, and the source runs on`() {
    let world = FrontEndWorld(seed: 10)
    let link = MemoryLink(plan: world.plan)
    let other = MigrationDestination(
      machine: world.destinationMachine, memory: world.destinationMemory, regions: [],
      devices: Array(world.destinationDevices.dropFirst()))
    other.open(link.destination)
    link.step = { (try? other.step()) ?? false }
    let error = #expect(throws: MigrationError.self) { try world.source.run(over: link.source) }
    guard case .refused(let text)? = error?.cause else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(text.contains("no RAM ram") && text.contains("no device v1"))
    #expect(world.leftovers == [])
  }
}
