import DeviceMigration
import Simulation
import Testing

/// Every call of every journey fails once, in every way there is.
@Suite struct DeviceFailureTests {
  static let faults: [DeviceFault] = [
    .refuse(.eio), .failAfterwards(.eio), .breakDown(.eio), .lie,
  ]
  /// The calls by which a device says its state: when one of these fails or lies there is no true
  /// word to hold ``MigratableDevice/state`` against.
  static let stateCalls = ["GET MIG_DEVICE_STATE", "read device_state"]

  /// Runs `journey` again and again with the nth call going wrong, until it gets through without
  /// reaching the nth. Returns how many runs failed.
  static func everyCall(
    _ fault: DeviceFault, _ make: () throws -> DeviceUnderTest,
    _ journey: (DeviceUnderTest) throws(DeviceError) -> Void
  ) throws -> Int {
    var failures = 0
    for index in 0..<500 {
      let under = try make()
      let before = under.faults.callCount
      under.faults.plan(fault, afterCalls: index)
      do throws(DeviceError) {
        try journey(under)
        if under.faults.callCount - before <= index { return failures }
      } catch {
        failures += 1
        let isTold = under.device.state == under.trueState()
        let isSilent = under.device.state == .error
        let name = "\(under.device.name), call \(index), \(fault): \(error)"
        #expect(isTold || isSilent, "\(name)")
        if !Self.stateCalls.contains(error.operation), fault != .lie {
          #expect(isTold, "\(name)")
        }
      }
      _ = try under.device.recover()
      #expect(under.trueState() == .running)
      #expect(under.device.state == .running)
      // A second attempt succeeds.
      let chunks = try DeviceJourney.save(under)
      #expect(!chunks.isEmpty)
      #expect(under.trueState() == .stop)
    }
    Issue.record("the journey has no end")
    return failures
  }

  @Test func `any failure while saving is recovered from and the next attempt succeeds`() throws {
    for make in DeviceUnderTest.kinds {
      for fault in Self.faults {
        let failures = try Self.everyCall(fault, make) { (under) throws(DeviceError) in
          _ = try DeviceJourney.save(under)
        }
        #expect(failures > 1)
      }
    }
  }

  @Test func `any failure in a cancel is recovered from`() throws {
    for make in DeviceUnderTest.kinds {
      for fault in Self.faults {
        _ = try Self.everyCall(fault, make) { (under) throws(DeviceError) in
          _ = try DeviceJourney.cancel(under)
        }
      }
    }
  }

  @Test func `any failure while loading is recovered from`() throws {
    for make in DeviceUnderTest.kinds {
      let source = make()
      source.working.work(20, seed: 12)
      let chunks = try DeviceJourney.save(source)
      for fault in Self.faults {
        let failures = try Self.everyCall(fault, make) { (under) throws(DeviceError) in
          try DeviceJourney.load(chunks, under)
        }
        #expect(failures > 1)
      }
    }
  }

  @Test func `a refused or broken save loses nothing of what the device holds`() throws {
    for make in DeviceUnderTest.kinds {
      for index in 0..<12 {
        let under = make()
        under.working.work(20, seed: 13)
        let digest = under.working.stateDigest
        under.faults.plan(.refuse(.ebusy), afterCalls: index)
        var chunks: [[UInt8]] = []
        do throws(DeviceError) {
          try under.device.beginPrecopy()
          try DeviceJourney.drain(under.device, into: &chunks)
          try under.device.enterP2P()
          try under.device.beginStopCopy()
          break
        } catch {
          #expect(error.errno == .ebusy)
          #expect(!error.outcome.isEmpty || DeviceFailureTests.stateCalls.contains(error.operation))
        }
        #expect(try under.device.recover() == .running)
        #expect(under.working.stateDigest == digest)
      }
    }
  }

  @Test func `a device in ERROR is reset and says why`() throws {
    for make in DeviceUnderTest.kinds {
      let under = make()
      try under.device.beginPrecopy()
      under.faults.plan(.breakDown(.eio), afterCalls: 0)
      #expect(throws: DeviceError.self) { try under.device.beginStopCopy() }
      #expect(under.device.state == .error)
      guard case .reset(let cause) = try under.device.recover() else {
        Issue.record("not reset")
        return
      }
      #expect(cause != nil)
      #expect(under.trueState() == .running)
    }
  }

  @Test func `a device that can not even be reset is called lost, and may be tried again`() throws {
    for make in DeviceUnderTest.kinds {
      let under = make()
      try under.device.beginPrecopy()
      under.faults.plan(.breakDown(.eio), afterCalls: 0)
      #expect(throws: DeviceError.self) { try under.device.beginStopCopy() }
      under.faults.failResets(1)
      do throws(DeviceError) {
        _ = try under.device.recover()
        Issue.record("recovered without a reset")
      } catch {
        #expect(error.reason == .notRecovered)
        #expect(error.description.contains("the device is lost"))
      }
      #expect(under.device.state == .error)
      _ = try under.device.recover()
      #expect(under.trueState() == .running)
    }
  }

  @Test func `a guest that resets its device under us is noticed`() throws {
    let simulated = SimulatedV2Device(name: "nic0", features: [.stopCopy, .precopy])
    let device = MigratableDeviceV2(name: "nic0", migration: simulated)
    try device.beginPrecopy()
    try simulated.reset()
    var buffer: [UInt8] = []
    #expect(throws: DeviceError.self) {
      try device.nextChunk(into: &buffer, byteCountMax: 4096)
    }
    #expect(buffer.isEmpty)
    #expect(device.state == .running)
    #expect(try device.recover() == .running)
  }
}
