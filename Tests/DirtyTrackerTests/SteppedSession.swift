import Addressing
import DirtyTracker
import GuestDirtyLog
import TestSupport

/// A migration whose starts, syncs, attachments and stops are taken step by step, while a guest
/// maps, unmaps and writes between any two of them.
final class SteppedSession {
  /// The smallest steps there are: a mapping, a page.
  static let smallest = StepBounds(windowByteCountMax: 8, mappingCountMax: 1, pageCountMax: 1)

  /// Moves the course on to its end.
  /// - Parameter between: called with the number of steps taken so far, before each step.
  static func finish(
    _ world: World, _ bounds: StepBounds = smallest, between: (Int) -> Void
  ) {
    var count = 0
    repeat {
      between(count)
      count += 1
    } while world.tracker.step(world.id, bounds)
  }

  static func sync(_ world: World, isFinal: Bool = false, between: (Int) -> Void) {
    world.tracker.beginSync(world.id, SyncRequest(isFinal: isFinal))
    finish(world, between: between)
    world.reports.append(world.tracker.takeReport(world.id))
  }

  static func start(_ world: World, between: (Int) -> Void) {
    world.tracker.setTracking(true)
    world.tracker.beginStart(world.id)
    finish(world, between: between)
  }

  private let world: World
  private let check: (NaiveTracker) -> Void
  private var random: SeededGenerator
  private var model = NaiveTracker()

  private init(_ world: World, seed: UInt64, check: @escaping (NaiveTracker) -> Void) {
    self.world = world
    self.check = check
    random = SeededGenerator(seed: seed)
  }

  /// - Returns: pages the destination lacks, empty when all is well.
  static func run(
    _ world: World, seed: UInt64, steps: Int, check: @escaping (NaiveTracker) -> Void = { _ in }
  ) -> Set<UInt64> {
    let session = SteppedSession(world, seed: seed, check: check)
    return session.run(steps)
  }

  private func run(_ steps: Int) -> Set<UInt64> {
    for _ in 0..<steps / 8 { meanwhile(isMigrating: false) }
    Self.start(world) { _ in meanwhile(isMigrating: false) }
    world.harvest()
    for _ in 0..<steps / 8 {
      meanwhile()
      switch random.below(8) {
      case 0:
        world.tracker.beginAttachment(world.id)
        Self.finish(world) { _ in meanwhile() }
      case 1: restart()
      default: Self.sync(world) { _ in meanwhile() }
      }
    }
    return finish()
  }

  private func meanwhile(isMigrating: Bool = true) {
    while random.once(in: 2) {
      Session.step(world, &model, &random, isMigrating: isMigrating)
      check(model)
    }
  }

  /// Tracking stops and starts again, at any step of a sync. Nobody is promised anything for the
  /// time in between: the destination takes all of RAM again.
  private func restart() {
    world.tracker.beginSync(world.id, SyncRequest())
    _ = world.tracker.step(world.id, Self.smallest)
    meanwhile()
    world.tracker.endCourse(world.id)
    world.tracker.setTracking(false)
    world.tracker.beginStop(world.id)
    Self.finish(world) { _ in meanwhile() }
    Self.start(world) { _ in meanwhile(isMigrating: false) }
    world.tracker.log.markEverything(by: .conservative(nil))
    model.harvested(world.harvest())
  }

  /// The last sync: vCPUs and devices have stopped. What may still come is a map, and a write that
  /// was on its way through it.
  private func finish() -> Set<UInt64> {
    Self.sync(world, isFinal: true) { _ in
      guard random.once(in: 3) else { return }
      let page = random.below(Session.iovaPages)
      if random.once(in: 3) {
        model.unmap(page, 1, world.refusalToUnmap(World.iova(page)), world)
      } else {
        let gpa = random.below(world.pageCount)
        // Mapped so already: the device has stopped, and nothing is new that it could have used.
        let isNew = model.mapped[page] != .init(gpaPage: gpa, permissions: .readWrite)
        let refusal = world.refusalToMap(page, to: gpa)
        model.map(page, 1, to: gpa, .readWrite, refusal, world)
        if isNew, refusal == nil, let written = world.write(page) { model.wrote(written) }
      }
    }
    world.harvest()
    return world.different
  }
}
