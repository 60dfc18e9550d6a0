import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

/// A migration by the tracker over the fake kernel, of which any call fails.
@Suite struct Type1SessionTests {
  /// One guest whose devices write at random while its pages are copied.
  final class Migration {
    let world: Type1World
    let tracker = DirtyTracker(log: GuestDirtyLog(), policy: TrackerPolicy(rearmPageCount: 2))
    let id: ContainerID
    let reader: ConsumerID
    private var copied: [UInt64: UInt64] = [:]
    private(set) var notes: [String] = []

    init(_ kind: Type1World.Kind) throws {
      let ram = TestRAM(first: GPA(0), pageCount: 16)
      world = try Type1World(kind, ram: ram)
      try tracker.regionAdded(
        RAMRegion(name: "ram", gpa: ram.gpa, hvaFirst: world.fake.hvaFirst))
      id = try tracker.addContainer(world.container, addressSpace: .remapped)
      reader = try tracker.log.addConsumer("destination", startsDirty: true)
      world.kernel.plan(nil)
    }

    private func harvest() {
      let harvest = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
      let pages = world.ram.pages
      for run in harvest.runs {
        for page in run.first.rawValue >> 12...run.last.rawValue >> 12 {
          copied[page] = pages[page]
        }
      }
      tracker.log.delivered(harvest)
    }

    /// - Returns: ``missing``.
    func run(seed: UInt64, steps: Int) -> Set<UInt64> {
      var random = SeededGenerator(seed: seed)
      for index in 0..<steps {
        if index == steps / 4 {
          notes += tracker.startTracking().notes
          harvest()
        }
        let page = random.below(24 as UInt64)
        let range = Type1World.range(page, 1 + random.below(4 as UInt64))
        switch random.below(14) {
        case 0..<3:
          let gpa = GPA(random.below(12 as UInt64) << 12)
          let permissions: Permissions = random.once(in: 5) ? .read : .readWrite
          try? tracker.iommuMap(id, range, to: gpa, permissions: permissions)
        case 3, 4: try? tracker.iommuUnmap(id, range)
        case 5: if random.once(in: 5) { try? tracker.iommuUnmap(id, .wholeSpace) }
        case 6..<12: _ = world.port.touch(IOVA(page << 12))
        case 12 where index > steps / 4: notes += tracker.sync(isFinal: false).notes
        default: if index > steps / 4 { harvest() }
        }
      }
      notes += tracker.sync(isFinal: true).notes
      harvest()
      return missing
    }

    /// Pages whose content the destination does not have.
    var missing: Set<UInt64> { Set(world.ram.pages.filter { copied[$0.key] != $0.value }.keys) }
  }

  @Test(arguments: Type1World.Kind.allCases)
  func `no page is lost`(kind: Type1World.Kind) throws {
    let seed = TestSeed.seed(default: 40)
    for round in 0..<5 as Range<UInt64> {
      let lost = try Migration(kind).run(seed: seed + round, steps: 300)
      #expect(lost == [], "\(TestSeed.reproduce(seed, filter: "Type1SessionTests"))")
    }
  }

  /// What the kernel, or what filters its calls, can answer.
  static let errnos = [
    ContainerErrno.eperm, ContainerErrno.enoent, ContainerErrno.eio, ContainerErrno.e2big,
    ContainerErrno.enomem, ContainerErrno.eacces, ContainerErrno.efault, ContainerErrno.ebusy,
    ContainerErrno.eexist, ContainerErrno.enodev, ContainerErrno.einval, ContainerErrno.enotty,
    ContainerErrno.enospc, ContainerErrno.eoverflow, ContainerErrno.eopnotsupp,
    // EINTR, EAGAIN, and a number that is none.
    4, 11, 4095,
  ]
  /// The same of calls that had their effect: errors of checks made before any are out of question.
  static let errnosAfter = [
    ContainerErrno.eio, ContainerErrno.enomem, ContainerErrno.efault, ContainerErrno.ebusy,
    ContainerErrno.enodev, 4, 11,
  ]

  @Test(arguments: Type1World.Kind.allCases, FakeKernel.Moment.allCases)
  func `whichever call to the kernel fails, no page is lost`(
    kind: Type1World.Kind, moment: FakeKernel.Moment
  ) throws {
    let seed = TestSeed.seed(default: 9)
    let again = TestSeed.reproduce(seed, filter: "Type1SessionTests")
    let healthy = try Migration(kind)
    #expect(healthy.run(seed: seed, steps: 45) == [], "\(again)")
    let count = healthy.world.kernel.calls.count
    #expect(count > 10)
    for ordinal in 1...count {
      for errno in moment == .before ? Self.errnos : Self.errnosAfter {
        let migration = try Migration(kind)
        migration.world.kernel.plan(.init(ordinal: ordinal, errno: errno, moment: moment))
        let lost = migration.run(seed: seed, steps: 45)
        let call = healthy.world.kernel.calls[ordinal - 1]
        #expect(lost == [], "call \(ordinal) \(moment): \(call), \(again)")
      }
    }
  }

  @Test func `the oracle notices a log that reports nothing`() throws {
    let migration = try Migration(.pinned)
    #expect(migration.run(seed: 3, steps: 200) == [])
    try migration.world.map(0x800, 1, ram: 3)
    #expect(migration.world.port.touch(IOVA(0x80_0000)) != nil)
    #expect(migration.missing == [3], "written after the final sync")
  }
}
