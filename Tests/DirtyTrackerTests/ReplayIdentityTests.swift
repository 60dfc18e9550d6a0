import Addressing
import DMAContainer
import DirtyTracker
import EventTrace
import GuestDirtyLog
import PageBitmap
import Simulation
import Snapshot
import Testing
import TraceReplay

/// What has no number of its own in the record, or the same as something else, and would be taken
/// for it.
@Suite struct ReplayIdentityTests {
  private func expectSame(
    _ tracker: DirtyTracker, _ record: EventRecord,
    _ sourceLocation: SourceLocation = #_sourceLocation
  ) -> TrackerReplay {
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    #expect(replay.divergences == [], sourceLocation: sourceLocation)
    #expect(replay.tracker.stateDigest() == tracker.stateDigest(), sourceLocation: sourceLocation)
    // One thread did all of it, so who marked a page first is the same as well.
    #expect(
      replay.tracker.log.pagesBySource == tracker.log.pagesBySource,
      sourceLocation: sourceLocation)
    return replay
  }

  @Test func `a consumer that was refused takes no number from the next`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let world = try World(.type1, record: record)
    let log = world.tracker.log
    var others: [ConsumerID] = []
    while let other = try? log.addConsumer("other", startsDirty: false) { others.append(other) }
    #expect(others.count == Limits.consumerCountMax - 1)
    log.removeConsumer(others.removeLast())
    let last = try log.addConsumer("last", startsDirty: true)
    _ = log.harvest(for: last, pageCountMax: 3, runCountMax: 3)
    _ = expectSame(world.tracker, record)
  }

  @Test func `a harvest put back twice, and one put back after it was delivered`() throws {
    for isDelivered in [false, true] {
      let record = EventRecord(byteCountMax: 1 << 16)
      let world = try World(.type1, record: record)
      let log = world.tracker.log
      let harvest = log.harvest(for: world.reader, pageCountMax: 3, runCountMax: 3)
      if isDelivered { log.delivered(harvest) } else { log.putBack(harvest) }
      _ = log.harvest(for: world.reader, pageCountMax: .max, runCountMax: 3)
      log.putBack(harvest)
      #expect(log.allDirtyReason != nil)
      let replay = expectSame(world.tracker, record)
      #expect(replay.tracker.log.allDirtyReason == log.allDirtyReason)
    }
  }

  @Test func `a log that replaced another of the same name is another log`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let world = try World(.type1DeviceLog, record: record)
    world.map(0, 4, to: 0)
    world.start()
    let type1 = try #require(world.container as? SimulatedType1)
    type1.detach(world.ports[0])
    _ = type1.attachDevice(
      "nic", log: SimulatedDeviceLog(name: "device log", rangeCountMax: 2, faults: world.faults))
    try world.tracker.attachmentChanged(world.id)
    world.sync()
    world.sync(isFinal: true)
    _ = expectSame(world.tracker, record)
  }

  @Test func `what two calls of one operation answered is told apart`() throws {
    // Two mappings, unmapped by one call of the guest in two calls of the backend: the first finds
    // nothing, the second fails.
    let record = EventRecord(byteCountMax: 1 << 16)
    let world = try World(.type1, record: record)
    world.map(0, to: 0)
    world.map(1, to: 1)
    world.start()
    world.harvest()
    world.faults.reset([.init(.unmap, ordinal: 2, errno: 5)])
    world.map(0, to: 3)
    world.map(1, to: 4)
    world.unmap(0, 2)
    world.unmap(0, 2)
    world.sync(isFinal: true)
    _ = expectSame(world.tracker, record)
  }

  @Test func `a call otherwise than recorded, and an answer that nobody asks for, are named`()
    throws
  {
    let record = EventRecord(byteCountMax: 1 << 16)
    let world = try World(.type1, record: record)
    // No call of the backend.
    world.unmap(9)
    world.faults.reset([.init(.map, ordinal: 1, errno: 5)])
    #expect(!world.map(0, to: 3))
    var events = record.events()
    let place = try #require(events.lastIndex { if case .mapped = $0 { true } else { false } })
    guard case .mapped(let container, _, let gpa, let permissions, let isAhead) = events[place]
    else { return }
    events[place] = .mapped(
      container: container, iova: World.iova(1), gpaFirst: gpa, permissions: permissions,
      isAhead: isAhead)
    let other = TrackerReplay.replay(events, into: GuestDirtyLog()).divergences
    #expect(other.count == 1 && other[0].contains("came where"))
    events.remove(at: place)
    let left = TrackerReplay.replay(events, into: GuestDirtyLog()).divergences
    #expect(left.count == 1 && left[0].contains("nobody asked"))
  }

  @Test func `a log that stays when the one before it goes is asked at its new place`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let world = try World(.type1DeviceLog, record: record)
    let type1 = try #require(world.container as? SimulatedType1)
    let port = type1.attachDevice(
      "disk",
      log: SimulatedDeviceLog(name: "second log", rangeCountMax: 2, faults: world.faults))
    try world.tracker.attachmentChanged(world.id)
    world.map(0, 4, to: 0)
    world.start()
    type1.detach(world.ports[0])
    try world.tracker.attachmentChanged(world.id)
    world.harvest()
    #expect(port.touch(IOVA(1 << 12)) != nil)
    world.sync()
    #expect(world.dirty == [1])
    _ = expectSame(world.tracker, record)
  }

  @Test func `a bitmap of large pages over more than a query of small ones takes`() throws {
    let record = EventRecord(byteCountMax: 1 << 16)
    let tracker = DirtyTracker(log: GuestDirtyLog(), record: record)
    try tracker.regionAdded(RAMRegion(name: "ram", gpa: World.gpa(0, 2048)))
    let type1 = SimulatedType1(memory: GenerationMemory(pageCount: 2048))
    _ = type1.attachMediatedDevice("mdev")
    let id = try tracker.addContainer(type1, ownership: .vmm, addressSpace: .remapped)
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    for slot in [0, 1 << 31] as [UInt64] {
      try tracker.iommuMap(
        id, World.iova(slot, 1024), to: GPA(slot == 0 ? 0 : 1024 << 12), permissions: .readWrite)
    }
    _ = tracker.startTracking()
    // 16 TiB.
    let window = AddressRange(first: IOVA(0), last: IOVA((1 << 44) - 1))
    var bitmap = try QueryBitmap(byteCountMax: 2 << 20)
    try bitmap.reset(window: window, pageSize: .twoMiB)
    bitmap.insert(World.iova((1 << 31) + 512, 512))
    try tracker.iommuUnmapped(id, window, dirty: bitmap)
    #expect(tracker.log.peek(for: reader, runCountMax: 9) == [World.gpa(1536, 512)])
    _ = expectSame(tracker, record)
  }

  @Test func `names longer than a record keeps`() throws {
    let record = EventRecord(byteCountMax: 1 << 20)
    let tracker = DirtyTracker(log: GuestDirtyLog(), record: record)
    let name = String(repeating: "größer ", count: 1000)
    for (index, end) in ["a", "b"].enumerated() {
      try tracker.regionAdded(RAMRegion(name: name + end, gpa: World.gpa(UInt64(index) * 8, 4)))
    }
    _ = try tracker.log.addConsumer(name, startsDirty: true)
    let replay = TrackerReplay.replay(record.events(), into: GuestDirtyLog())
    // The two regions have one name now, which a log refuses: it is said.
    #expect(replay.divergences.count == 1)
    let other = EventRecord(byteCountMax: 1 << 20)
    let single = DirtyTracker(log: GuestDirtyLog(), record: other)
    try single.regionAdded(RAMRegion(name: name, gpa: World.gpa(0, 4)))
    _ = try single.log.addConsumer(name, startsDirty: true)
    single.log.markAllDirtyForGood(because: name)
    _ = expectSame(single, other)
  }

  @Test func `a trace that names more RAM than may be had bits for is said to, and takes none`() {
    let huge = RAMRegion(name: "ram", gpa: AddressRange(first: GPA(0), last: GPA((1 << 52) - 1)))
    let events: [TrackerEvent] = [
      .trackerMade(.init(pageSize: .fourKiB)), .log(.regionAdded(huge)),
      .log(.consumerAdded(consumer: 1, name: "reader", fills: true)),
    ]
    let replay = TrackerReplay.replay(events, into: GuestDirtyLog())
    #expect(replay.divergences.count == 1 && replay.divergences[0].contains("left out"))
    #expect(replay.tracker.log.regions == [])
    let small = RAMRegion(name: "ram", gpa: World.gpa(0, 1 << 20))
    let limited = TrackerReplay.replay(
      [events[0], .log(.regionAdded(small))], into: GuestDirtyLog(), bitmapByteCountMax: 1 << 17)
    #expect(limited.divergences.count == 1)
  }
}
