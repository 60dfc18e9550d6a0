import Addressing
import DMAContainer
import DirtyTracker
import Dispatch
import EventTrace
import GuestDirtyLog
import Locking
import Simulation
import Snapshot
import TestSupport
import Testing
import TraceReplay

/// A record whose beginning is gone is replayed from a snapshot, taken while everything went on.
@Suite struct SnapshotTests {
  private func expectSame(
    _ tracker: DirtyTracker, _ record: EventRecord, _ snapshot: TrackerSnapshot,
    _ comment: Comment? = nil
  ) {
    let events = record.recordedEvents().filter { $0.sequence >= snapshot.firstSequence }
    let read = SnapshotReader(snapshot.encoded())
    #expect(read.damageByteOffset == nil && read.snapshot == snapshot, comment)
    let replay = TrackerReplay.replay(
      events.map(\.event), from: read.snapshot, first: snapshot.firstSequence,
      into: GuestDirtyLog())
    #expect(replay.divergences == [], comment)
    #expect(replay.tracker.stateDigest() == tracker.stateDigest(), comment)
    #expect(
      replay.tracker.containers.map(\.mappingCount) == tracker.containers.map(\.mappingCount),
      comment)
    replay.tracker.log.checkInvariants()
  }

  /// Before, in and after whatever a session does: faults, held-back pages, restarted logs.
  @Test(arguments: ContainerKind.allCases)
  func `a snapshot and the events after it give the state`(kind: ContainerKind) throws {
    for seed in 0..<3 as Range<UInt64> {
      for steps in [0, 7, 60, 120] {
        let record = EventRecord(byteCountMax: 4 << 20)
        let fault = FaultPlan.Fault(nil, ordinal: 40 + Int(seed), errno: 5, moment: .halfway)
        let world = try World(kind, record: record, faultingFrom: seed == 0 ? [] : [fault])
        _ = Session.run(world, seed: seed, steps: steps)
        let snapshot = try #require(world.tracker.snapshot())
        expectSame(world.tracker, record, snapshot, "right away, seed \(seed), \(steps) steps")
        _ = Session.run(world, seed: seed + 9, steps: 60)
        expectSame(world.tracker, record, snapshot, "later, seed \(seed), \(steps) steps")
      }
    }
  }

  /// A table of several pieces, and marks and harvests between two of the log's.
  @Test(arguments: [ContainerKind.type1Pinned, .iommufd])
  func `what is done between two pieces of a snapshot is in it or after it, once`(
    kind: ContainerKind
  ) throws {
    var gaps = 0
    for step in SnapshotWorld.Step.allCases {
      for gap in 0..<40 {
        let world = try SnapshotWorld(kind, gap: gap)
        guard let snapshot = world.snapshot(interrupting: step) else { break }
        gaps += 1
        expectSame(world.tracker, world.record, snapshot, "\(step) in gap \(gap)")
        world.goOn()
        expectSame(world.tracker, world.record, snapshot, "later, \(step) in gap \(gap)")
      }
    }
    #expect(gaps > 8 * SnapshotWorld.Step.allCases.count)
  }

  @Test(arguments: [ContainerKind.type1, .type1Pinned, .type1DeviceLog, .iommufd])
  func `snapshots of threads that meet are replayed to the state they left`(
    kind: ContainerKind
  ) throws {
    let record = EventRecord(eventCountMax: 1 << 18, byteCountMax: 64 << 20)
    let world = try World(kind, record: record, log: OrderWorld.log())
    for page in 0..<8 as Range<UInt64> { world.map(page, to: page) }
    world.start()
    let (tracker, reader, id, ports) = (world.tracker, world.reader, world.id, world.ports)
    let snapshots = Mutex<[TrackerSnapshot]>([])
    let work: [@Sendable (inout SeededGenerator) -> Void] = [
      { random in
        _ = ports[random.below(ports.count)].touch(IOVA(random.below(8 as UInt64) << 12))
      },
      { random in World.mapOrUnmap(tracker, id, &random) },
      { random in _ = tracker.sync(isFinal: random.once(in: 9)) },
      { random in World.takeSome(tracker, reader, &random) },
      { random in
        tracker.vcpuWrote(World.gpa(random.below(16 as UInt64)))
        guard random.once(in: 8), let snapshot = tracker.snapshot() else { return }
        snapshots.withLock { $0.append(snapshot) }
      },
    ]
    DispatchQueue.concurrentPerform(iterations: work.count) { worker in
      var random = SeededGenerator(seed: TestSeed.seed(default: 15) &+ UInt64(worker))
      for _ in 0..<200 { work[worker](&random) }
    }
    let taken = snapshots.withLock { $0 }
    #expect(!taken.isEmpty)
    for snapshot in taken { expectSame(tracker, record, snapshot) }
  }

  @Test func `a small record stays replayable by snapshots of its own, in its file too`() throws {
    let record = EventRecord(eventCountMax: 400, byteCountMax: 1 << 16)
    let world = try World(.type1Mixed, record: record)
    for seed in 0..<6 as Range<UInt64> {
      _ = Session.run(world, seed: seed, steps: 60)
      world.sync()
    }
    #expect(record.droppedCount > 0 && record.isReplayable)
    let trace = TraceReader(record.encoded())
    #expect(trace.damage == nil && trace.isComplete && trace.snapshot != nil)
    let replay = try TrackerReplay.replay(trace)
    #expect(replay.divergences == [])
    #expect(replay.tracker.stateDigest() == world.tracker.stateDigest())
    // Without another snapshot its beginning goes, and it says so.
    for page in 0..<500 as Range<UInt64> { world.tracker.vcpuWrote(World.gpa(page % 16)) }
    #expect(!record.isReplayable && record.needsSnapshot)
    let late = TraceReader(record.encoded())
    #expect(late.damage == nil && !late.isComplete && late.events.count == 400)
    #expect(throws: TraceRefusal.eventsMissing(record.droppedCount)) {
      try TrackerReplay.replay(late)
    }
  }

  @Test func `a place that is a piece too late or too early shows`() throws {
    var found = 0
    for gap in 0..<40 {
      let world = try SnapshotWorld(.type1Pinned, gap: gap)
      guard var snapshot = world.snapshot(interrupting: .harvest) else { break }
      for index in snapshot.log.blocks.indices {
        snapshot.log.blocks[index].place = JournalPlace(snapshot.firstSequence)
      }
      let events = world.record.recordedEvents().filter { $0.sequence >= snapshot.firstSequence }
      let replay = TrackerReplay.replay(
        events.map(\.event), from: snapshot, first: snapshot.firstSequence, into: GuestDirtyLog())
      if replay.divergences != []
        || replay.tracker.stateDigest() != world.tracker.stateDigest()
      {
        found += 1
      }
    }
    #expect(found > 0)
  }

  @Test func `a log that may be running still is stopped again by a replay from a snapshot`() throws
  {
    let record = EventRecord(byteCountMax: 1 << 20)
    let world = try World(.type1DeviceLog, record: record)
    world.map(0, 4, to: 0)
    world.start()
    world.faults.reset([.init(.stopLog, ordinal: 1, errno: 5, isLasting: true)])
    _ = world.tracker.stopTracking()
    let snapshot = try #require(world.tracker.snapshot())
    world.start()
    expectSame(world.tracker, record, snapshot)
  }

  @Test func `what failed before a snapshot is known to a replay from it`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    // Half an unmap, after which this log is not started again.
    let half = try World(.iommufd, record: record)
    for page in 0..<3 as Range<UInt64> { half.map(page, to: page + 4) }
    half.start()
    half.faults.reset([
      .init(.unmap, ordinal: 1, errno: 5, moment: .halfway), .init(.unmap, ordinal: 2, errno: 5),
    ])
    half.unmap(0, 3)
    _ = half.tracker.stopTracking()
    let afterHalf = try #require(half.tracker.snapshot())
    #expect(afterHalf.containers[0].hasPartialUnmap)
    half.start()
    expectSame(half.tracker, record, afterHalf)

    // A range whose report always fails.
    let other = EventRecord(byteCountMax: 1 << 20)
    let refusing = try World(.type1DeviceLog, record: other)
    refusing.map(0, 4, to: 0)
    refusing.start()
    refusing.faults.reset([.init(.query, ordinal: 1, errno: 5, isLasting: true)])
    for _ in 0..<8 { refusing.sync() }
    let afterRefusal = try #require(refusing.tracker.snapshot())
    #expect(afterRefusal.containers[0].logs.contains { !$0.refused.isEmpty })
    refusing.sync(isFinal: true)
    expectSame(refusing.tracker, other, afterRefusal)
  }

  @Test func `what is owed when a snapshot is taken is paid by a replay from it`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let world = try World(.iommufd, record: record, startsDirty: false)
    world.map(0, to: 5)
    world.tracker.setTracking(true)
    world.tracker.beginStart(world.id)
    // Given up before it has started a log.
    world.tracker.endCourse(world.id)
    let snapshot = try #require(world.tracker.snapshot())
    #expect(!snapshot.containers[0].owed.isEmpty)
    world.unmap(0)
    #expect(world.dirty == [5])
    expectSame(world.tracker, record, snapshot)
  }

  @Test func `a damaged snapshot is read up to the damage, and never traps`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let world = try World(.type1Mixed, record: record)
    _ = Session.run(world, seed: 4, steps: 60)
    let bytes = try #require(world.tracker.snapshot()).encoded()
    #expect(SnapshotReader(bytes).damageByteOffset == nil)
    for end in 0..<bytes.count {
      #expect(SnapshotReader(Array(bytes[..<end])).damageByteOffset != nil)
    }
    // More than was written is damage too: of its end, which is not the last of the bytes.
    #expect(SnapshotReader(bytes + [0]).damageByteOffset.map { $0 < bytes.count } == true)
    for byte in bytes.indices {
      var flipped = bytes
      flipped[byte] ^= 1 << UInt8(byte % 8)
      #expect(SnapshotReader(flipped).damageByteOffset != nil, "byte \(byte)")
    }
  }
}
