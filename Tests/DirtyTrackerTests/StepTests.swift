import Addressing
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Simulation
import TestSupport
import Testing
import TraceReplay

/// What may happen between two steps of a course, and loses nothing.
@Suite struct StepTests {
  @Test(arguments: ContainerKind.allCases, TrackerModelTests.PolicyKind.allCases)
  func `whatever comes between two steps, no page is lost and the tables agree`(
    kind: ContainerKind, policy: TrackerModelTests.PolicyKind
  ) throws {
    let base = TestSeed.seed(default: 1200)
    for seed in base..<base + 8 {
      let world = try World(kind, policy: policy.policy)
      var problem: String?
      let lost = SteppedSession.run(world, seed: seed, steps: 160) { model in
        problem = problem ?? model.difference(world.tracker.mappings(of: world.id))
      }
      #expect(lost.isEmpty, "\(TestSeed.reproduce(seed, filter: "StepTests")): \(lost)")
      #expect(problem == nil, "\(TestSeed.reproduce(seed, filter: "StepTests"))")
    }
  }

  @Test(arguments: ContainerKind.allCases)
  func `whatever call fails in a session of steps, no page is lost`(kind: ContainerKind) throws {
    let base = TestSeed.seed(default: 1300)
    for seed in base..<base + 24 {
      var random = SeededGenerator(seed: seed)
      let moment = FaultPlan.Moment.allCases[random.below(FaultPlan.Moment.allCases.count)]
      let fault = FaultPlan.Fault(
        nil, ordinal: 1 + random.below(60), errno: 5, moment: moment,
        isLasting: random.once(in: 4))
      let world = try World(kind, faultingFrom: [fault])
      var last = NaiveTracker()
      let lost = SteppedSession.run(world, seed: seed, steps: 120) { last = $0 }
      #expect(lost.isEmpty, "\(TestSeed.reproduce(seed, filter: "StepTests")): \(lost)")
      let flaws = [last.problem].compactMap { $0 } + world.flawsAfterRecovery()
      #expect(flaws == [], "\(TestSeed.reproduce(seed, filter: "StepTests"))")
    }
  }

  @Test(arguments: ContainerKind.allCases)
  func `a replay takes the same steps and comes to the same state`(kind: ContainerKind) throws {
    for seed in 0..<3 as Range<UInt64> {
      let record = EventRecord(byteCountMax: 1 << 20)
      let world = try World(kind, record: record)
      #expect(SteppedSession.run(world, seed: seed, steps: 120).isEmpty)
      let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
      #expect(replay.divergences == [])
      #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
    }
  }

  /// What each loses: the checks above can fail.
  @Test(arguments: [
    (StepPace.Fault.restartOwesNothing, ContainerKind.type1DeviceLog),
    (.finalMapMarksNothing, .type1Pinned), (.finalMapMarksNothing, .iommufd),
  ])
  func `a step that does not keep its promise loses pages`(
    planted: StepPace.Fault, kind: ContainerKind
  ) throws {
    var lost = 0
    for seed in 0..<40 as Range<UInt64> {
      let world = try World(
        kind, policy: TrackerPolicy(rearmPageCount: 0), pace: StepPace(planted: planted))
      lost += SteppedSession.run(world, seed: seed, steps: 160).count
    }
    #expect(lost > 0)
  }

  private static let events: [@Sendable (World) -> Void] = [
    { $0.unmap(0) }, { $0.unmap(.wholeSpace) }, { $0.map(0, to: 3) }, { $0.map(4, to: 1) },
    { $0.write(0) }, { $0.write(2) }, { $0.harvest() },
  ]

  /// A world of four pages, two mappings, and one more that a device log does not know.
  private static func small(_ kind: ContainerKind, _ pace: StepPace = StepPace()) throws -> World {
    let world = try World(kind, pageCount: 4, policy: TrackerPolicy(rearmPageCount: 0), pace: pace)
    world.map(0, 2, to: 0)
    world.map(2, to: 2)
    world.start()
    world.harvest()
    world.map(3, to: 3)
    world.write(0)
    world.write(3)
    return world
  }

  /// Runs one sync with two events in two gaps, then the final one.
  /// - Returns: whether a page was lost, and whether the sync had as many gaps.
  private static func loses(
    _ world: World, _ first: (gap: Int, event: Int), _ second: (gap: Int, event: Int)
  ) -> (isLost: Bool, hasGap: Bool) {
    var gaps = 0
    SteppedSession.sync(world) { gap in
      gaps = gap
      if gap == first.gap { events[first.event](world) }
      if gap == second.gap { events[second.event](world) }
    }
    return (!world.finish().isEmpty, gaps >= max(first.gap, second.gap))
  }

  @Test(arguments: ContainerKind.allCases)
  func `any two events in any two gaps of a sync lose nothing`(kind: ContainerKind) throws {
    var failed: [String] = []
    var (gap, hasGap) = (0, true)
    while hasGap {
      hasGap = false
      for earlier in 0...gap {
        for one in Self.events.indices {
          for other in Self.events.indices {
            let world = try Self.small(kind)
            let result = Self.loses(world, (earlier, one), (gap, other))
            if result.isLost { failed.append("\(earlier): \(one), \(gap): \(other)") }
            hasGap = hasGap || result.hasGap
          }
        }
      }
      gap += 1
    }
    #expect(gap > 2)
    #expect(failed == [])
  }

  @Test func `the exhaustive worlds notice an owed mark that an unmap does not pay`() throws {
    var lost = 0
    for gap in 0..<12 {
      for one in Self.events.indices {
        for other in Self.events.indices {
          let world = try Self.small(.type1DeviceLog, StepPace(planted: .unmapPaysNothing))
          if Self.loses(world, (gap, one), (gap + 1, other)).isLost { lost += 1 }
        }
      }
    }
    #expect(lost > 0)
  }

  @Test func `a stop ends a sync at its step, and the next start begins anew`() throws {
    let world = try World(.type1DeviceLog)
    world.map(0, 4, to: 0)
    world.map(8, 4, to: 8)
    world.start()
    world.tracker.beginSync(world.id, SyncRequest())
    _ = world.tracker.step(world.id, SteppedSession.smallest)
    _ = world.tracker.stopTracking()
    #expect(!world.tracker.step(world.id, SteppedSession.smallest))
    #expect(world.tracker.containers[0].isTracking == false)
    world.start()
    world.write(9)
    #expect(world.finish().isEmpty)
  }

  @Test func `a wide mapping costs what its RAM costs, held back or marked`() throws {
    let world = try World(.iommufdNothing, pageCount: 16, startsDirty: false)
    let wide = IOVARange(first: IOVA(0), byteCount: 1 << 52)!
    // Past the RAM there is nothing of this process: a BAR, as far as anybody knows.
    try world.tracker.iommuMap(world.id, wide, to: GPA(1 << 20), permissions: .readWrite)
    world.map(1 << 41, 4, to: 0)
    world.start()
    var steps = 0
    world.tracker.beginSync(world.id, SyncRequest())
    SteppedSession.finish(world, .running(windowByteCountMax: 16 << 10)) { _ in steps += 1 }
    #expect(steps < 64)
    #expect(world.tracker.heldBackPageCount == 4)
  }

  @Test func `an unmap of everything in pieces leaves what was mapped meanwhile`() throws {
    let world = try World(.iommufd, pageCount: 16, startsDirty: false)
    for page in 0..<10_000 as Range<UInt64> { world.map(page * 2, to: page % 16) }
    world.start()
    #expect(world.unmap(.wholeSpace))
    #expect(world.tracker.mappings(of: world.id).isEmpty)
    #expect(world.dirty.count == 16)
  }
}
