import Addressing
import DMAContainer
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Locking
import PageBitmap
import Simulation
import TestSupport
import TraceReplay

/// A guest with two containers and two readers, recorded, in which something is done in one gap of
/// something else: between two calls of a backend, or two holds of the log's locks.
final class OrderWorld: Sendable {
  enum Work: CaseIterable {
    case unmap, unmapAll, unmapPart, remap, sync, finalSync, stop, harvest, putBack, wideWrite
  }

  enum Step: CaseIterable {
    case harvest, harvestOfOther, putBack, write, unmapOther, sticky
    case addReader, addDirtyReader, removeReader

    /// Readers come and go under a lock that a settling of held-back pages has, so only where no
    /// log call is under way.
    func fits(_ work: Work) -> Bool {
      switch self {
      case .addReader, .addDirtyReader, .removeReader:
        [.unmap, .unmapAll, .unmapPart, .remap].contains(work)
      // The second container may be the one under way.
      case .unmapOther: work != .sync && work != .finalSync && work != .stop
      default: true
      }
    }
  }

  /// Three blocks of bits.
  static let pageCount: UInt64 = 70_000
  static let written: [UInt64] = [3, 5, 33_000, 66_000]

  /// Small holds, so that there are gaps in what is done to a few pages.
  static func log(_ gap: Gap? = nil, omitsOrder: Bool = false) -> GuestDirtyLog {
    var limits = HoldLimits()
    limits.blockCount = 1
    limits.runCount = 1
    limits.omitsOrder = omitsOrder
    if let gap { limits.between = { gap.pass() } }
    return GuestDirtyLog(limits: limits)
  }

  let record = EventRecord(eventCountMax: 1 << 12, byteCountMax: 1 << 20)
  let gap: Gap
  let tracker: DirtyTracker
  let first: ContainerID
  let second: ContainerID
  let reader: ConsumerID
  let other: ConsumerID
  let ports: [SimulatedDevicePort]
  let open = Mutex<Harvest?>(nil)

  init(_ kind: ContainerKind, gap wanted: Int, omitsOrder: Bool = false) throws {
    let gap = Gap(wanted)
    self.gap = gap
    var hooks = HookedContainer.Hooks()
    hooks.around = { gap.pass() }
    let world = try World(
      kind, pageCount: Self.pageCount, record: record,
      log: Self.log(gap, omitsOrder: omitsOrder), hooks: hooks)
    tracker = world.tracker
    first = world.id
    reader = world.reader
    let other = try world.addSecond()
    second = other.id
    ports = world.ports + other.ports
    self.other = try tracker.log.addConsumer("other", startsDirty: false)
    for id in [first, second] {
      for (page, count) in [(0, 8), (8, Self.pageCount - 8)] as [(UInt64, UInt64)] {
        try tracker.iommuMap(
          id, World.iova(page, count), to: GPA(page << 12), permissions: .readWrite)
      }
    }
    world.start()
    _ = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: 1)
    tracker.vcpuWrote(World.gpa(3))
    tracker.vcpuWrote(World.gpa(40_000, 3))
    open.withLock {
      $0 = tracker.log.harvest(for: reader, pageCountMax: 2, runCountMax: 2)
    }
    for page in Self.written { for port in ports { _ = port.touch(IOVA(page << 12)) } }
  }

  func run(_ work: Work, interrupting step: Step) -> Bool {
    gap.arm { self.take(step) }
    switch work {
    case .unmap: try? tracker.iommuUnmap(first, World.iova(0, Self.pageCount))
    case .unmapAll: try? tracker.iommuUnmap(first, .wholeSpace)
    case .unmapPart: try? tracker.iommuUnmap(first, World.iova(0, 8))
    case .remap:
      try? tracker.iommuMap(
        first, World.iova(0, 8), to: GPA(33_000 << 12), permissions: .readWrite)
    case .sync: _ = tracker.sync(isFinal: false)
    case .finalSync:
      _ = tracker.sync(isFinal: false)
      _ = tracker.sync(isFinal: true)
    case .stop: _ = tracker.stopTracking()
    case .harvest:
      tracker.vcpuWrote(World.gpa(33_000, 2))
      _ = tracker.log.harvest(for: other, pageCountMax: .max, runCountMax: 99)
    case .putBack: _ = tracker.log.putBackAll(for: reader)
    case .wideWrite: tracker.vcpuWrote(World.gpa(0, Self.pageCount))
    }
    let wasThere = gap.disarm()
    // What was left dirty, and for whom, shows in what they take next.
    _ = tracker.log.harvest(for: reader, pageCountMax: 3, runCountMax: 3)
    return wasThere
  }

  private func take(_ step: Step) {
    let log = tracker.log
    switch step {
    case .harvest:
      _ = log.harvest(for: reader, pageCountMax: .max, runCountMax: 99)
      // Beside what is unmapped, in the same line of bits.
      tracker.vcpuWrote(World.gpa(12))
    case .harvestOfOther: _ = log.harvest(for: other, pageCountMax: .max, runCountMax: 99)
    case .putBack: if let harvest = open.withLock({ $0.take() }) { log.putBack(harvest) }
    case .write: tracker.vcpuWrote(World.gpa(4, 40_000))
    case .unmapOther: try? tracker.iommuUnmap(second, World.iova(0, Self.pageCount))
    case .sticky: log.markAllDirtyForGood(because: "of a test")
    case .addReader: _ = try? log.addConsumer("third", startsDirty: false)
    case .addDirtyReader: _ = try? log.addConsumer("third", startsDirty: true)
    case .removeReader: log.removeConsumer(other)
    }
  }

  /// What a replay of the record has otherwise, a sentence each.
  var differences: [String] {
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    replay.tracker.log.checkInvariants()
    var found = replay.divergences
    if replay.tracker.stateDigest() != tracker.stateDigest() {
      found.append("the state is another")
      for consumer in [reader, other] {
        let (there, here) = (
          tracker.log.peek(for: consumer, runCountMax: 99),
          replay.tracker.log.peek(for: consumer, runCountMax: 99)
        )
        if there != here { found.append("dirty for \(consumer): \(there), now \(here)") }
      }
    }
    return found
  }
}

/// A container under another name.
final class Renamed: DMAContainer {
  let name: String
  private let inner: any DMAContainer

  init(_ inner: any DMAContainer, _ name: String) {
    self.inner = inner
    self.name = name
  }

  var capabilities: ContainerCapabilities { inner.capabilities }
  var dirtyLogs: [any DirtyLog] { inner.dirtyLogs }
  func map(_ request: MapRequest) throws(ContainerError) { try inner.map(request) }
  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 { try inner.unmap(range) }
  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    try inner.unmap(reportingInto: &dirty)
  }
}
