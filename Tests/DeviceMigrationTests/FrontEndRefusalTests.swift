import Addressing
@testable import DeviceMigration
import GuestDirtyLog
import Locking
import Simulation
import TestSupport
import Testing

/// What a source must not send, and what it must not do after a failure.
@Suite struct FrontEndRefusalTests {
  private static func world(_ seed: UInt64) -> FrontEndWorld {
    let world = FrontEndWorld(seed: seed, pageCount: 6)
    world.policy.notConverging = .stopAnyway(afterRounds: 2)
    world.writesPerEvent = 1
    return world
  }

  @Test func `nothing is written after a write that failed, not even that it is over`() throws {
    let world = Self.world(61)
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    world.onEvent = { [unowned world] event in
      if case .roundBegan = event { world.plan.failAt = world.plan.count + 2 }
    }
    #expect(throws: MigrationError.self) { try world.source.run(over: link.source) }
    let later = world.plan.journal.dropFirst(world.plan.failAt)
    #expect(!later.contains("memory, source write"))
    #expect(world.leftovers == [])
  }

  @Test func `a machine's state over the limit is refused here, and the guest runs on`() throws {
    let world = Self.world(62)
    world.sourceMachine.state = [UInt8](
      repeating: 7, count: StreamFormat.machineStateByteCountMax + 1)
    let error = try #require(world.migrate().source)
    guard case .machine(let refusal) = error.cause else {
      Issue.record("\(error)")
      return
    }
    #expect(refusal.description.contains("over the limit"))
    #expect(world.leftovers == [])
    world.sourceMachine.state = [1]
    #expect(world.migrate().source == nil)
  }

  @Test func `a device that gives nothing more and no end is not taken for complete`() throws {
    let world = Self.world(63)
    world.sourceDevices[2].runsDryInStopCopy = true
    let error = try #require(world.migrate().source)
    guard case .device(let refusal) = error.cause else {
      Issue.record("\(error)")
      return
    }
    #expect(refusal.reason == .protocolBroken && refusal.object == "plain")
    #expect(world.leftovers == [])
  }

  @Test func `vCPUs resume once every device has recovered`() throws {
    let world = Self.world(64)
    var atResume: [DeviceState] = []
    world.sourceMachine.onResume = { [unowned world] in
      atResume = world.sourceDevices.map(\.state)
    }
    world.onEvent = { [unowned world] event in
      if case .status(.device) = event { world.source.cancellation.cancel(because: "now") }
    }
    #expect(world.migrate().source != nil)
    #expect(atResume == [.running, .running, .running, .running])
  }

  @Test(arguments: [false, true])
  func `a mark that stays, set in the last pass, has everything sent again`(
    isBeforeFinalSync: Bool
  ) throws {
    let world = Self.world(65)
    world.onEvent = { [unowned world] event in
      let isTime =
        switch event {
        case .stopping: isBeforeFinalSync
        case .roundBegan: !isBeforeFinalSync && !world.sourceMachine.isRunning
        default: false
        }
      guard isTime else { return }
      // Written, and no dirty bit says so.
      world.tracking.loseSight(because: "a bitmap was lost")
      for page in 0..<world.sourceMemory.pageCount { world.sourceMemory.fill(page: page, with: 5) }
    }
    #expect(world.migrate().source == nil)
    #expect(world.differences == [])
  }

  @Test func `a byte anywhere in a page keeps it from being sent as zeroes`() {
    var page = [UInt8](repeating: 0, count: StreamFormat.pageByteCount)
    func isZero() -> Bool { DeviceBytes.reading(page) { Checksum.isZero($0) } }
    #expect(isZero())
    for index in page.indices {
      page[index] = 1 << UInt8(index % 8)
      #expect(!isZero(), "byte \(index)")
      page[index] = 0
    }
  }

  @Test func `every data session of a device is closed once its state ends`() throws {
    let counted = SessionCountingDevice()
    let under = DeviceUnderTest(
      device: MigratableDeviceV2(name: "nic0", migration: counted), working: counted.device,
      faults: counted.device.faults, trueState: { counted.device.trueState })
    let chunks = try DeviceJourney.save(under)
    #expect(counted.counts.withLock { $0 } == .init(opened: 1, closed: 1))
    try under.device.run()
    try DeviceJourney.load(chunks, under)
    #expect(counted.counts.withLock { $0 } == .init(opened: 2, closed: 2))
  }
}

/// A device that counts its data sessions.
private final class SessionCountingDevice: VFIOMigrationV2 {
  struct Counts: Hashable, Sendable {
    var opened = 0
    var closed = 0
  }

  private final class Session: DeviceDataSession {
    let inner: any DeviceDataSession
    let device: SessionCountingDevice
    let isClosed = Mutex(false)

    init(_ inner: any DeviceDataSession, _ device: SessionCountingDevice) {
      self.inner = inner
      self.device = device
    }

    func read(into buffer: inout MutableRawSpan) throws(DeviceError) -> ReadOutcome {
      try inner.read(into: &buffer)
    }
    func write(_ bytes: RawSpan) throws(DeviceError) -> Int { try inner.write(bytes) }
    func precopyInfo() throws(DeviceError) -> PrecopyInfo { try inner.precopyInfo() }
    func close() {
      inner.close()
      let wasClosed = isClosed.withLock { isClosed in
        defer { isClosed = true }
        return isClosed
      }
      if !wasClosed { device.counts.withLock { $0.closed += 1 } }
    }
  }

  let device = SimulatedV2Device(name: "nic0", features: [.stopCopy, .p2p, .precopy])
  let counts = Mutex(Counts())

  func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    try device.migrationFeatures()
  }
  func state() throws(DeviceError) -> DeviceState { try device.state() }
  func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    guard let session = try device.setState(state) else { return nil }
    counts.withLock { $0.opened += 1 }
    return Session(session, self)
  }
  func stopCopyByteCount() throws(DeviceError) -> UInt64 { try device.stopCopyByteCount() }
  func reset() throws(DeviceError) { try device.reset() }
}
