import Addressing
import DirtyTracker
import GuestDirtyLog
import TestSupport
import Testing

/// Syncs through tables of more mappings than one batch of a walk.
@Suite struct WalkTests {
  /// Lines of 512 pages, neighbours of none in GPA; with some off a line and some read only.
  private static func linesMapped(_ world: World, count: UInt64) -> (UInt64) -> UInt64 {
    let lineCount = world.pageCount / 512
    func gpa(_ page: UInt64) -> UInt64 {
      let index = page / 512
      // The last line has none after it to reach into.
      let off: UInt64 = index % 97 == 5 ? 3 : 0
      return (index * 37 % (lineCount - 1)) * 512 + page % 512 + off
    }
    for index in 0..<count {
      world.map(index * 512, 512, to: gpa(index * 512), index % 50 == 9 ? .read : .readWrite)
    }
    return gpa
  }

  /// So many writes to pages of IOVA below `end`.
  /// - Returns: the GPA pages of those that the IOMMU let through.
  private static func write(
    _ world: World, _ writes: Int, below end: UInt64, _ gpa: (UInt64) -> UInt64,
    _ random: inout SeededGenerator
  ) -> Set<UInt64> {
    var wanted: Set<UInt64> = []
    for _ in 0..<writes {
      let page = random.below(end)
      if world.write(page) != nil { wanted.insert(gpa(page)) }
    }
    return wanted
  }

  @Test func `lines reach whichever region they lie in, and what is no line follows`() throws {
    let seed = TestSeed.seed(default: 78)
    let again = "\(TestSeed.reproduce(seed, filter: "WalkTests"))"
    var random = SeededGenerator(seed: seed)
    // Regions that end on a line, and inside of one.
    for regionPages in [32 * 512, 32 * 512 + 100] as [UInt64] {
      let world = try World(
        .iommufd, pageCount: 3 * regionPages, regionCount: 3, startsDirty: false)
      let count: UInt64 = 1200
      let gpa = Self.linesMapped(world, count: count)
      world.start()
      for writes in [4000, 1, 30_000] {
        let wanted = Self.write(world, writes, below: count * 512, gpa, &random)
        world.sync()
        #expect(world.dirty == wanted, "\(again)")
        let share = world.reports.last?.containers.first
        #expect(share?.newlyDirtyPages == UInt64(wanted.count), "\(again)")
        world.harvest()
      }
    }
  }

  @Test func `pinned lines are held back, and go with the final sync`() throws {
    let seed = TestSeed.seed(default: 79)
    var random = SeededGenerator(seed: seed)
    let world = try World(.type1Pinned, pageCount: 64 * 512, regionCount: 2, startsDirty: false)
    let count: UInt64 = 700
    let gpa = Self.linesMapped(world, count: count)
    world.start()
    let wanted = Self.write(world, 3000, below: count * 512, gpa, &random)
    world.sync()
    #expect(world.dirty.isEmpty)
    #expect(world.log.heldBackPageCount == UInt64(wanted.count))
    world.sync(isFinal: true)
    #expect(world.dirty == wanted, "\(TestSeed.reproduce(seed, filter: "WalkTests"))")
  }
}
