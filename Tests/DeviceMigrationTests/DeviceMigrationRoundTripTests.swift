import DeviceMigration
import Simulation
import Testing

@Suite struct DeviceMigrationRoundTripTests {
  @Test func `the state of every kind of device arrives, changes made meanwhile with it`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      let destination = make()
      source.working.work(20, seed: 5)
      let blank = destination.working.stateDigest
      let chunks = try DeviceJourney.save(source)
      #expect(source.trueState() == .stop)
      try DeviceJourney.load(chunks, destination)
      #expect(destination.trueState() == .running)
      #expect(destination.working.stateDigest == source.working.stateDigest)
      #expect(destination.working.stateDigest != blank, "\(source.device.name)")
    }
  }

  @Test(arguments: [1, 7, 1000, 4096, 9999])
  func `a destination that takes less per write than the source gave gets all of it`(
    byteCountPerCall: Int
  ) throws {
    let source = DeviceUnderTest.v2("big writes", options: .init(pageCount: 4))
    source.working.work(20, seed: 15)
    let chunks = try DeviceJourney.save(source)
    #expect(chunks.contains { $0.count > byteCountPerCall })
    let destination = DeviceUnderTest.v2(
      "small writes", options: .init(pageCount: 4, byteCountPerCall: byteCountPerCall))
    try DeviceJourney.load(chunks, destination)
    #expect(destination.working.stateDigest == source.working.stateDigest)
    #expect(destination.trueState() == .running)
  }

  @Test func `initial data that begins again is said, read again, and arrives`() throws {
    for isKnown in [true, false] {
      func make() -> DeviceUnderTest {
        DeviceUnderTest.v2(
          "nic0", options: .init(pageCount: 4, knowsPrecopyRestarts: isKnown))
      }
      let source = make()
      var chunks: [[UInt8]] = []
      try source.device.beginPrecopy()
      try DeviceJourney.drain(source.device, into: &chunks)
      #expect(source.device.precopyEstimate().precopyInitialBytes == 0)
      source.working.work(9, seed: 16)
      source.faults.restartInitialData(1)
      let estimate = source.device.pendingEstimate()
      #expect(estimate.initialDataRestarted == isKnown)
      #expect((estimate.precopyInitialBytes ?? 0 >= 4 * 4096) == isKnown)
      #expect((estimate.precopyDirtyBytes == 0) == isKnown)
      // Once.
      #expect(!source.device.pendingEstimate().initialDataRestarted)
      try source.device.enterP2P()
      try source.device.leaveP2P()
      #expect(source.trueState() == .precopy)
      try DeviceJourney.drain(source.device, into: &chunks)
      #expect(source.device.precopyEstimate().precopyInitialBytes == 0)
      try source.device.enterP2P()
      try source.device.beginStopCopy()
      try DeviceJourney.drain(source.device, into: &chunks)
      let destination = make()
      try DeviceJourney.load(chunks, destination)
      #expect(destination.working.stateDigest == source.working.stateDigest)
    }
  }

  @Test func `a state with one chunk missing is refused and the device is reset`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      source.working.work(20, seed: 6)
      var chunks = try DeviceJourney.save(source)
      chunks.removeFirst()
      let destination = make()
      let blank = destination.working.stateDigest
      #expect(throws: DeviceError.self) { try DeviceJourney.load(chunks, destination) }
      #expect(destination.device.state == destination.trueState())
      guard case .reset = try destination.device.recover() else {
        Issue.record("\(source.device.name) kept a state that was refused")
        return
      }
      #expect(destination.trueState() == .running)
      #expect(destination.working.stateDigest == blank)
    }
  }

  @Test func `the states passed through are those of the table of state changes`() throws {
    let expected: [String: [DeviceState]] = [
      "v2 full": [.running, .precopy, .precopyP2P, .stopCopy, .stop],
      "v2 without PRE_COPY": [.running, .runningP2P, .stop, .stopCopy, .stop],
      "v2 without P2P": [.running, .precopy, .stopCopy, .stop],
      "v2 plain": [.running, .stop, .stopCopy, .stop],
      "v1": [.running, .precopy, .stopCopy, .stop],
    ]
    for make in DeviceUnderTest.kinds {
      let source = make()
      let chunks = try DeviceJourney.save(source)
      guard let states = expected[source.device.name] else { continue }
      #expect(source.device.observedStates == states, "\(source.device.name)")
      let destination = make()
      try DeviceJourney.load(chunks, destination)
      let first = destination.device.observedStates.prefix { $0 != .resuming }
      #expect(first.first == .running)
      #expect(destination.device.observedStates.last == .running)
    }
  }

  @Test func `a stopped device stays stopped and its whole state comes at the end`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      source.working.work(9, seed: 4)
      try source.device.stop()
      try source.device.beginPrecopy()
      #expect(source.trueState() == .stop)
      var chunks: [[UInt8]] = []
      try DeviceJourney.drain(source.device, into: &chunks)
      #expect(chunks.isEmpty)
      try source.device.enterP2P()
      try source.device.beginStopCopy()
      try DeviceJourney.drain(source.device, into: &chunks)
      let destination = make()
      try DeviceJourney.load(chunks, destination)
      #expect(destination.working.stateDigest == source.working.stateDigest)
    }
  }

  @Test func `a cancel anywhere keeps what the device holds`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      source.working.work(20, seed: 7)
      let digest = source.working.stateDigest
      #expect(try DeviceJourney.cancel(source) == .running)
      #expect(source.trueState() == .running)
      #expect(source.working.stateDigest == digest)
    }
  }

  @Test func `a device that was loaded and never ran is reset`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      source.working.work(20, seed: 8)
      let chunks = try DeviceJourney.save(source)
      let destination = make()
      let blank = destination.working.stateDigest
      try destination.device.beginResuming()
      for chunk in chunks {
        try DeviceBytes.reading(chunk) { (bytes) throws(DeviceError) in
          try destination.device.load(bytes)
        }
      }
      try destination.device.finishResuming()
      try destination.device.prepareToRun()
      #expect(try destination.device.recover() == .reset(because: nil))
      #expect(destination.trueState() == .running)
      #expect(destination.working.stateDigest == blank)
    }
  }

  @Test func `saving is not finished before the device has said the end`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      try source.device.beginPrecopy()
      try source.device.beginStopCopy()
      #expect(throws: DeviceError.self) { try source.device.finishSaving() }
      #expect(source.trueState() == .stopCopy)
      var chunks: [[UInt8]] = []
      try DeviceJourney.drain(source.device, into: &chunks)
      var buffer: [UInt8] = []
      #expect(try source.device.nextChunk(into: &buffer, byteCountMax: 10) == .end)
      try source.device.finishSaving()
    }
  }

  @Test func `what a device does not say is unknown and not 0`() throws {
    let silent = DeviceUnderTest.v2("quiet", [.stopCopy], options: .init(saysDataSize: false))
    #expect(silent.device.pendingEstimate() == .unknown)
    let v1 = DeviceUnderTest.v1()
    #expect(v1.device.pendingEstimate() == .unknown)
    let full = DeviceUnderTest.v2()
    #expect(full.device.pendingEstimate().precopyBytes == nil)
    #expect(full.device.pendingEstimate().stopCopyBytes ?? 0 > 4 * 4096)
    try full.device.beginPrecopy()
    #expect(full.device.pendingEstimate().precopyInitialBytes ?? 0 > 4 * 4096)
    var chunks: [[UInt8]] = []
    try DeviceJourney.drain(full.device, into: &chunks)
    #expect(full.device.pendingEstimate().precopyBytes == 0)
    full.working.work(1, seed: 3)
    #expect(full.device.pendingEstimate().precopyDirtyBytes ?? 0 >= 4096)
    #expect(full.device.pendingEstimate().precopyInitialBytes == 0)
  }

  @Test func `a device without an interface says so and is left alone`() throws {
    let none = DeviceUnderTest.v2("disk", [])
    #expect(
      none.device.interface == .none(reason: "its driver has no migration interface"))
    let half = DeviceUnderTest.v2("disk", [.precopy])
    #expect(half.device.interface == .none(reason: "its driver does not offer STOP_COPY"))
    #expect(throws: DeviceError.self) { try none.device.beginStopCopy() }
    #expect(try none.device.recover() == .running)
    #expect(none.trueState() == .running)
  }
}
