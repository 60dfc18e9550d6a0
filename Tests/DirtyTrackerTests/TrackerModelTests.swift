import Addressing
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

@Suite struct TrackerModelTests {
  @Test(arguments: ContainerKind.allCases, [PolicyKind.heldBack, .everyRound])
  func `random migrations lose no page and agree with the model`(
    kind: ContainerKind, policy: PolicyKind
  ) throws {
    let base = TestSeed.seed(default: 77)
    for seed in base..<base + 8 {
      let world = try World(kind, policy: policy.policy)
      var problem: String?
      var last = NaiveTracker()
      let lost = Session.run(world, seed: seed, steps: 200) { model in
        last = model
        problem = problem ?? model.difference(world.tracker.mappings(of: world.id))
      }
      #expect(lost.isEmpty, "seed \(seed): \(lost)")
      #expect(problem == nil, "seed \(seed)")
      #expect(world.copied.count <= Int(world.pageCount))
      #expect(last.difference(world) == nil)
      #expect(world.flawsAfterRecovery() == [])
      if !lost.isEmpty || problem != nil {
        Issue.record("\(TestSeed.reproduce(seed, filter: "TrackerModelTests"))")
        return
      }
    }
  }

  enum PolicyKind: CaseIterable {
    case heldBack
    case everyRound

    var policy: TrackerPolicy {
      TrackerPolicy(pinnedPages: self == .heldBack ? .stopAndCopy : .everyRound, rearmPageCount: 2)
    }
  }

  /// What each omission loses, and in which containers: the check above can fail.
  @Test(arguments: [
    (TrackerOmission.unmap, ContainerKind.type1Pinned), (.unmap, .iommufd),
    (.unmap, .type1DeviceLog), (.query, .iommufd), (.query, .iommufdDeviceLog),
    (.pinned, .type1), (.pinned, .iommufdNothing), (.rearm, .type1DeviceLog),
    (.finalSync, .type1Mixed), (.finalSync, .iommufd),
  ])
  func `a step left out on purpose loses pages`(
    omission: TrackerOmission, kind: ContainerKind
  ) throws {
    var lost = 0
    for seed in 0..<8 as Range<UInt64> {
      let world = try World(kind, omitting: [omission])
      lost += Session.run(world, seed: seed, steps: 200).count
    }
    #expect(lost > 0)
  }

  @Test(arguments: [ContainerKind.type1DeviceWords, .type1DevicePages])
  func `a log that keeps its granule to itself loses pages`(kind: ContainerKind) throws {
    var lost = 0
    for seed in 0..<24 as Range<UInt64> {
      let world = try World(
        kind, policy: TrackerPolicy(rearmPageCount: 100), statesGranule: false)
      lost += Session.run(world, seed: seed, steps: 200).count
    }
    #expect(lost > 0)
  }

  @Test func `the comparison notices a model that forgets an unmap`() throws {
    let world = try World(.type1)
    var model = NaiveTracker()
    model.map(1, 2, to: 3, .readWrite, world.refusalToMap(1, 2, to: 3), world)
    #expect(model.difference(world.tracker.mappings(of: world.id)) == nil)
    world.unmap(2)
    #expect(model.difference(world.tracker.mappings(of: world.id)) != nil)
  }

  @Test(arguments: ContainerKind.allCases)
  func `only what was mapped writable is ever dirty`(kind: ContainerKind) throws {
    let world = try World(kind, startsDirty: false)
    var model = NaiveTracker()
    var dirty: Set<UInt64> = []
    let seed = TestSeed.seed(default: 4)
    var random = SeededGenerator(seed: seed)
    world.start()
    for _ in 0..<300 {
      Session.step(world, &model, &random)
      dirty.formUnion(world.dirty)
    }
    world.sync(isFinal: true)
    dirty.formUnion(world.dirty)
    #expect(
      dirty.isSubset(of: model.everWritable),
      "\(TestSeed.reproduce(seed, filter: "TrackerModelTests"))")
  }

  /// Every sequence of four events over four pages of RAM.
  @Test(arguments: ContainerKind.allCases)
  func `every short sequence of events loses no page`(kind: ContainerKind) throws {
    let events: [(World) -> Void] = [
      { $0.map(0, to: 0) }, { $0.map(0, 2, to: 2) }, { $0.map(1, to: 1) }, { $0.unmap(0) },
      { $0.write(0) }, { $0.write(1) }, { $0.sync() }, { $0.harvest() },
    ]
    var sequence = [0, 0, 0, 0]
    var failed: [[Int]] = []
    repeat {
      let world = try World(kind, pageCount: 4, policy: TrackerPolicy(rearmPageCount: 0))
      world.map(0, 2, to: 0)
      world.start()
      world.harvest()
      world.write(0)
      for event in sequence { events[event](world) }
      if !world.finish().isEmpty { failed.append(sequence) }
    } while Self.advance(&sequence, events.count)
    #expect(failed.isEmpty)
  }

  private static func advance(_ sequence: inout [Int], _ base: Int) -> Bool {
    for index in sequence.indices {
      sequence[index] += 1
      if sequence[index] < base { return true }
      sequence[index] = 0
    }
    return false
  }
}
