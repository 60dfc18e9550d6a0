import DeviceMigration
import GuestDirtyLog
import TestSupport
import Testing

/// What comes up in the moment of the stop, or in the last round.
@Suite struct FrontEndLastLookTests {
  static func world(_ seed: UInt64, lateInitialCount: Int) -> FrontEndWorld {
    let world = FrontEndWorld(seed: seed)
    world.writesPerEvent = 2
    world.policy.downtimeLimitNanoseconds = .max - 1
    world.policy.notConverging = .giveUp(afterRounds: 30)
    world.sourceDevices[1].lateInitialCount = lateInitialCount
    return world
  }

  @Test(arguments: [false, true])
  func `new initial data after the vCPUs stopped sends the guest back for a round`(
    hasNotifier: Bool
  ) throws {
    let world = Self.world(81, lateInitialCount: 1)
    if hasNotifier {
      world.sourceMachine.notifier = { [unowned world] state in
        #expect(throws: Never.self) { try world.source.vmStateChanged(state) }
      }
    }
    var statesWhenResumed: [[DeviceState]] = []
    world.sourceMachine.onResume = { [unowned world] in
      statesWhenResumed.append(world.sourceDevices.map(\.state))
    }
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
    // Every device works again before a vCPU does, and its session is the same.
    #expect(statesWhenResumed == [[.precopy, .precopy, .running, .precopy]])
    #expect(
      world.source.report.devices[1].states
        == [.running, .precopy, .precopyP2P, .precopy, .precopyP2P, .stopCopy, .stop])
    #expect(world.plan.journal.filter { $0 == "source stopVCPUs" }.count == 2)
    #expect(world.plan.journal.filter { $0 == "tracking final sync" }.count == 1)
    #expect(world.source.report.returnedNanoseconds > 0)
    #expect(
      world.source.report.notes.contains(
        "device full has 77 initial bytes after the vCPUs had stopped: the guest ran on for "
          + "another round"))
  }

  @Test func `a device that always has new initial data is stopped after three returns`() {
    let world = Self.world(82, lateInitialCount: 100)
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
    #expect(world.plan.journal.filter { $0 == "source stopVCPUs" }.count == 4)
    #expect(world.source.report.notes.contains { $0.contains("the guest waits") })
  }

  @Test func `a stop that was to come anyway does not wait for new initial data`() {
    let world = Self.world(83, lateInitialCount: 1)
    world.policy.downtimeLimitNanoseconds = 1
    world.policy.notConverging = .stopAnyway(afterRounds: 2)
    #expect(world.migrate().source == nil)
    #expect(world.plan.journal.filter { $0 == "source stopVCPUs" }.count == 1)
    #expect(world.source.report.notes.contains { $0.contains("the guest waits") })
  }

  @Test func `whichever call fails around a return, one side runs and a second attempt succeeds`() {
    let healthy = Self.world(84, lateInitialCount: 1)
    _ = healthy.migrate()
    let calls = healthy.plan.count
    let first = healthy.plan.journal.firstIndex(of: "source stopVCPUs") ?? 0
    #expect(first > 0)
    for number in first..<min(first + 60, calls) {
      let world = Self.world(84, lateInitialCount: 1)
      world.plan.failAt = number
      let outcome = world.migrate()
      guard outcome.source != nil, !world.source.isOutcomeUnknown else { continue }
      #expect(world.leftovers == [], "call \(number): \(world.plan.failed ?? "")")
      #expect(world.migrate().source == nil, "call \(number): \(world.plan.failed ?? "")")
      #expect(world.differences == [], "call \(number): \(world.plan.failed ?? "")")
    }
  }

  @Test func `no vCPU runs before every device has recovered, whichever call failed`() {
    var number = 1
    var resumedCount = 0
    while true {
      let world = FrontEndWorld(seed: 85, pageCount: 6)
      world.policy.notConverging = .stopAnyway(afterRounds: 2)
      world.policy.harvestPageCountMax = 3
      world.plan.failAt = number
      world.sourceMachine.onResume = { [unowned world] in
        resumedCount += 1
        #expect(
          world.sourceDevices.allSatisfy { $0.state == .running }, "call \(number): a dead device")
        #expect(!world.tracking.isOn, "call \(number): tracking is on still")
      }
      _ = world.migrate()
      guard world.plan.failed != nil else { break }
      number += 1
    }
    #expect(resumedCount > 30)
  }

  @Test func `a mark that stays, set in a round, sends everything again after the stop`() throws {
    for last in [3, 4] {
      let world = FrontEndWorld(seed: 86)
      world.onEvent = { [unowned world] event in
        guard case .progress(let round, _, _) = event, round == last, world.tracking.isOn else {
          return
        }
        if world.tracking.log.allDirtyReason == nil { world.tracking.loseSight(because: "lost it") }
      }
      #expect(world.migrate().source == nil)
      #expect(world.differences == [], "set in round \(last)")
      let final = try #require(world.source.report.rounds.last)
      #expect(final.contentPages + final.zeroPages >= UInt64(world.sourceMemory.pageCount))
      #expect(world.source.report.notes.contains("everything is sent again: lost it"))
    }
  }

  @Test func `a mark that stays, set in the last pass, is no page lost`() {
    for late in [false, true] {
      let world = FrontEndWorld(seed: 87)
      world.onEvent = { [unowned world] event in
        guard world.tracking.log.allDirtyReason == nil else { return }
        switch event {
        case .progress(let round, _, _) where !late && round == 5: break
        case .roundEnded(let round, _) where late && round.isFinal: break
        default: return
        }
        // Written by something that nobody sees any more.
        world.tracking.loseSight(because: "lost it at the end")
        world.write(page: 3)
      }
      #expect(world.migrate().source == nil)
      #expect(world.tracking.log.allDirtyReason != nil)
      #expect(world.differences == [], "late: \(late)")
      #expect(
        world.source.report.notes.contains("everything is sent again: lost it at the end"),
        "late: \(late)")
    }
  }
}
