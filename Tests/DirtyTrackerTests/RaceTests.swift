import Addressing
import DirtyTracker
import Dispatch
import GuestDirtyLog
import Simulation
import Locking
import TestSupport
import Testing

@Suite struct RaceTests {
  /// Device writes, maps and unmaps, syncs and harvests in threads of their own. A page whose
  /// content is newer than what was copied must be dirty at the end.
  /// - Parameter hasSmallSteps: syncs in the smallest steps there are, so that the other threads
  ///   get in between any two.
  @Test(arguments: ContainerKind.allCases, [false, true])
  func `no write is lost that races with unmaps, syncs and harvests`(
    kind: ContainerKind, hasSmallSteps: Bool
  ) throws {
    let pace = StepPace(fixedBounds: hasSmallSteps ? SteppedSession.smallest : nil)
    let world = try World(kind, pageCount: 16, pace: pace)
    let tracker = world.tracker
    let id = world.id
    let log = world.log
    let memory = world.memory
    let reader = world.reader
    let ports = world.ports
    for page in 0..<8 as Range<UInt64> { world.map(page, to: page) }
    world.start()
    let copied = Mutex<[UInt64: UInt64]>([:])
    @Sendable func copyDirty(fails: Bool = false) {
      let harvest = tracker.log.harvest(for: reader, pageCountMax: 4, runCountMax: 8)
      for (index, run) in harvest.runs.enumerated() {
        // A send that fails does so half way: what it sent before is there, and counts for nothing.
        if fails, index > 0 { break }
        for page in (run.first.rawValue >> 12)...(run.last.rawValue >> 12) {
          let content = memory.generation(page)
          copied.withLock { $0[page] = content }
        }
      }
      if fails { tracker.log.putBack(harvest) } else { tracker.log.delivered(harvest) }
    }
    let work: [@Sendable (inout SeededGenerator) -> Void] = [
      { random in _ = ports[random.below(ports.count)].touch(IOVA(random.below(8 as UInt64) << 12))
      },
      { random in _ = ports[random.below(ports.count)].touch(IOVA(random.below(8 as UInt64) << 12))
      },
      { random in World.mapOrUnmap(tracker, id, &random) },
      { _ in _ = tracker.sync(isFinal: false) },
      { random in copyDirty(fails: random.once(in: 3)) },
    ]
    let steps = 300
    DispatchQueue.concurrentPerform(iterations: work.count) { worker in
      var random = SeededGenerator(seed: UInt64(worker) + 100)
      for _ in 0..<steps { work[worker](&random) }
    }
    _ = tracker.sync(isFinal: true)
    // Before the last copy: whatever is newer than what was sent is dirty.
    world.copied = copied.withLock { $0 }
    #expect(world.different.isSubset(of: world.dirty))
    while log.dirtyPageCount(for: reader) > 0 { copyDirty() }
    world.copied = copied.withLock { $0 }
    #expect(world.different.isEmpty)
    // The check can fail: a write that no log sees.
    memory.touch(GPA(0))
    #expect(world.different == [0])
  }
}
