import Addressing
import GuestDirtyLog
import TestSupport

/// A migration with a guest that maps, unmaps and writes at random while it runs.
enum Session {
  static let iovaPages: UInt64 = 24

  /// One thing a guest, a device, or the migration does.
  ///
  /// - Parameter isMigrating: false before the log start: nobody reads yet.
  static func step(
    _ world: World, _ model: inout NaiveTracker, _ random: inout SeededGenerator,
    isMigrating: Bool = true
  ) {
    let page = random.below(iovaPages)
    let count = 1 + random.below(min(6, iovaPages - page))
    switch random.below(isMigrating ? 16 : 13) {
    case 0..<4:
      let gpa = random.below(world.pageCount - min(count, world.pageCount - 1))
      let permissions: Permissions = random.once(in: 5) ? .read : .readWrite
      let refusal = world.refusalToMap(page, count, to: gpa, permissions)
      model.map(page, count, to: gpa, permissions, refusal, world)
    case 4..<6:
      model.unmap(page, count, world.refusalToUnmap(World.iova(page, count)), world)
    case 6:
      if random.once(in: 4) {
        model.unmap(0, iovaPages, world.refusalToUnmap(.wholeSpace), world)
      }
    case 7..<13:
      let device = random.below(2)
      let written = world.write(page, device: device)
      if let written { model.wrote(written) }
    case 13: world.sync()
    default: model.harvested(world.harvest(1 + random.below(8 as UInt64)))
    }
  }

  /// - Returns: pages the destination lacks, empty when all is well.
  static func run(
    _ world: World, seed: UInt64, steps: Int, check: (NaiveTracker) -> Void = { _ in }
  ) -> Set<UInt64> {
    var random = SeededGenerator(seed: seed)
    var model = NaiveTracker()
    for _ in 0..<steps / 4 where random.once(in: 2) {
      step(world, &model, &random, isMigrating: false)
    }
    world.start()
    world.harvest()
    for _ in 0..<steps {
      step(world, &model, &random)
      check(model)
    }
    return world.finish()
  }
}
