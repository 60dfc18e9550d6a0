import Addressing
import DMAContainer
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Locking
import Simulation
import Snapshot
import TestSupport

/// A guest with a table of several pieces, in which something is done between two pieces of a
/// snapshot.
final class SnapshotWorld {
  enum Step: CaseIterable {
    case unmap, map, remap, unmapAll, harvest, putBack, write, unmapOfOther, ram, deliver
  }

  static let mappingCount: UInt64 = 20

  let record = EventRecord(eventCountMax: 1 << 16, byteCountMax: 16 << 20)
  let gap: Gap
  let tracker: DirtyTracker
  let first: ContainerID
  let second: ContainerID
  let reader: ConsumerID
  let open: Mutex<Harvest?>

  init(_ kind: ContainerKind, gap wanted: Int) throws {
    let gap = Gap(wanted)
    self.gap = gap
    let world = try World(
      kind, pageCount: 70_000, record: record,
      // A tick is read between two pieces of a table.
      pace: StepPace(
        clock: {
          gap.pass()
          return 0
        },
        fixedBounds: StepBounds(
          windowByteCountMax: .max, mappingCountMax: 8, pageCountMax: 4 << 20)),
      log: OrderWorld.log(gap))
    tracker = world.tracker
    first = world.id
    reader = world.reader
    let other = try world.addSecond()
    second = other.id
    for page in 0..<Self.mappingCount {
      // Apart, so that none goes on into the next.
      try tracker.iommuMap(
        first, World.iova(page * 2), to: GPA(page << 12), permissions: .readWrite)
    }
    try tracker.iommuMap(second, World.iova(0, 64), to: GPA(66_000 << 12), permissions: .readWrite)
    world.start()
    _ = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: 1)
    for port in world.ports + other.ports {
      for page in [0, 6, 30] as [UInt64] { _ = port.touch(IOVA(page << 12)) }
    }
    _ = tracker.sync(isFinal: false)
    for page in [2, 40, 33_000, 66_000] as [UInt64] { tracker.vcpuWrote(World.gpa(page, 3)) }
    open = Mutex(tracker.log.harvest(for: reader, pageCountMax: 1, runCountMax: 1))
  }

  /// - Returns: nil where there is no such gap.
  func snapshot(interrupting step: Step) -> TrackerSnapshot? {
    let (tracker, first, second, reader) = (tracker, first, second, reader)
    let harvest = open.withLock { $0.take() }
    gap.arm {
      switch step {
      case .unmap: try? tracker.iommuUnmap(first, World.iova(6))
      case .map: try? tracker.iommuMap(first, World.iova(7), to: GPA(0), permissions: .readWrite)
      case .remap:
        try? tracker.iommuMap(first, World.iova(6, 2), to: GPA(9 << 12), permissions: .readWrite)
      case .unmapAll: try? tracker.iommuUnmap(first, .wholeSpace)
      case .harvest: _ = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: 99)
      case .putBack: if let harvest { tracker.log.putBack(harvest) }
      case .deliver: if let harvest { tracker.log.delivered(harvest) }
      case .write: tracker.vcpuWrote(World.gpa(4, 68_000))
      case .unmapOfOther: try? tracker.iommuUnmap(second, World.iova(0, 64))
      case .ram:
        // What a table piece waits for, a log piece has behind it.
        tracker.vcpuWrote(World.gpa(0))
        try? tracker.ramDiscarded(World.gpa(69_000, 8))
      }
    }
    let snapshot = tracker.snapshot()
    return gap.disarm() ? snapshot : nil
  }

  func goOn() {
    _ = tracker.log.harvest(for: reader, pageCountMax: 7, runCountMax: 7)
    try? tracker.iommuMap(first, World.iova(501), to: GPA(1 << 12), permissions: .readWrite)
    try? tracker.iommuUnmap(first, World.iova(20, 9))
    _ = tracker.sync(isFinal: false)
    _ = tracker.sync(isFinal: true)
    _ = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: 99)
  }
}
