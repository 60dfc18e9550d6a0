import DeviceMigration
import Locking
import Simulation
import Testing

/// A v2 device that breaks the rules of its interface in one way.
final class CrookedV2Device: VFIOMigrationV2 {
  enum Crime { case withholdsSession, handsOutSession, resetsToStop, saysRunning }

  let device: SimulatedV2Device
  let crime: Crime
  init(_ device: SimulatedV2Device, _ crime: Crime) {
    self.device = device
    self.crime = crime
  }

  func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    try device.migrationFeatures()
  }
  func state() throws(DeviceError) -> DeviceState {
    let state = try device.state()
    return crime == .saysRunning ? .running : state
  }
  func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    let session = try device.setState(state)
    switch crime {
    case .withholdsSession: return nil
    case .handsOutSession: return session ?? CrookedSession()
    case .resetsToStop, .saysRunning: return session
    }
  }
  func stopCopyByteCount() throws(DeviceError) -> UInt64 { try device.stopCopyByteCount() }
  func reset() throws(DeviceError) {
    try device.reset()
    if crime == .resetsToStop { _ = try device.setState(.stop) }
  }
}

/// Says ENOMSG for ever, in STOP_COPY too, and takes nothing.
final class CrookedSession: DeviceDataSession {
  func read(into buffer: inout MutableRawSpan) throws(DeviceError) -> ReadOutcome { .temporaryEnd }
  func write(_ bytes: RawSpan) throws(DeviceError) -> Int { 0 }
  func precopyInfo() throws(DeviceError) -> PrecopyInfo {
    throw DeviceError(object: "crooked", operation: "GET_PRECOPY_INFO", errno: .enotty)
  }
  func close() {}
}

/// Counts the questions for MIG_DATA_SIZE.
final class CountedV2Device: VFIOMigrationV2 {
  let device = SimulatedV2Device(name: "counted", features: [.stopCopy, .precopy])
  let dataSizeCount = Mutex(0)
  func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    try device.migrationFeatures()
  }
  func state() throws(DeviceError) -> DeviceState { try device.state() }
  func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    try device.setState(state)
  }
  func stopCopyByteCount() throws(DeviceError) -> UInt64 {
    dataSizeCount.withLock { $0 += 1 }
    return try device.stopCopyByteCount()
  }
  func reset() throws(DeviceError) { try device.reset() }
}

/// Opens a ``CrookedSession`` wherever a session is due.
final class SilentV2Device: VFIOMigrationV2 {
  let device = SimulatedV2Device(name: "silent", features: [.stopCopy])
  func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    try device.migrationFeatures()
  }
  func state() throws(DeviceError) -> DeviceState { try device.state() }
  func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    try device.setState(state) == nil ? nil : CrookedSession()
  }
  func stopCopyByteCount() throws(DeviceError) -> UInt64 { try device.stopCopyByteCount() }
  func reset() throws(DeviceError) { try device.reset() }
}

@Suite struct DeviceV2ProtocolTests {
  @Test func `what pre-copy has left is asked without MIG_DATA_SIZE`() throws {
    let counted = CountedV2Device()
    let device = MigratableDeviceV2(name: "counted", migration: counted)
    try device.beginPrecopy()
    var buffer: [UInt8] = []
    repeat {
      #expect(device.precopyEstimate().precopyBytes != nil)
    } while try device.nextChunk(into: &buffer, byteCountMax: 4096) == .chunk
    #expect(counted.dataSizeCount.withLock { $0 } == 0)
    #expect(device.pendingEstimate().stopCopyBytes != nil)
    #expect(counted.dataSizeCount.withLock { $0 } == 1)
  }

  private func refusal(_ body: () throws(DeviceError) -> Void) -> DeviceError? {
    do throws(DeviceError) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  private func crooked(_ crime: CrookedV2Device.Crime) -> (MigratableDeviceV2, SimulatedV2Device) {
    let device = SimulatedV2Device(name: "nic0", features: [.stopCopy, .p2p, .precopy])
    return (
      MigratableDeviceV2(name: "nic0", migration: CrookedV2Device(device, crime)), device
    )
  }

  @Test func `a session that does not come is a broken device, and its state is known`() throws {
    let (device, simulated) = crooked(.withholdsSession)
    let error = refusal { () throws(DeviceError) in try device.beginPrecopy() }
    #expect(error?.reason == .protocolBroken)
    #expect(device.state == .precopy && simulated.trueState == .precopy)
    #expect(try device.recover() == .running)
  }

  @Test func `a session nobody asked for is a broken device`() throws {
    let (device, simulated) = crooked(.handsOutSession)
    let error = refusal { () throws(DeviceError) in try device.enterP2P() }
    #expect(error?.reason == .protocolBroken)
    #expect(device.state == .runningP2P && simulated.trueState == .runningP2P)
  }

  /// The planted fault of what ``DeviceFailureTests`` compares after every failure.
  @Test func `after a failure the state is the device's word, true or not`() throws {
    let (device, simulated) = crooked(.saysRunning)
    simulated.faults.plan(.failAfterwards(.eio), afterCalls: 0)
    #expect(refusal { () throws(DeviceError) in try device.beginStopCopy() }?.errno == .eio)
    #expect(device.state == .running)
    #expect(device.state != simulated.trueState)
  }

  @Test func `ENOMSG in STOP_COPY is not taken for the end`() throws {
    let device = MigratableDeviceV2(name: "silent", migration: SilentV2Device())
    try device.beginStopCopy()
    var buffer: [UInt8] = []
    let error = refusal { () throws(DeviceError) in
      _ = try device.nextChunk(into: &buffer, byteCountMax: 100)
    }
    #expect(error?.reason == .protocolBroken && error?.errno == .enomsg)
    #expect(refusal { () throws(DeviceError) in try device.finishSaving() } != nil)
  }

  @Test func `a device that takes no bytes is broken and does not hang the load`() throws {
    let device = MigratableDeviceV2(name: "silent", migration: SilentV2Device())
    try device.beginResuming()
    let error = refusal { () throws(DeviceError) in
      try DeviceBytes.reading([1, 2, 3]) { (bytes) throws(DeviceError) in try device.load(bytes) }
    }
    #expect(error?.reason == .protocolBroken)
    #expect(error?.description.contains("0 bytes of 3") == true)
  }

  @Test func `a reset that does not end in RUNNING is no recovery`() throws {
    let (device, simulated) = crooked(.resetsToStop)
    try device.beginResuming()
    let error = refusal { () throws(DeviceError) in _ = try device.recover() }
    #expect(error?.reason == .notRecovered)
    #expect(device.state == .stop && simulated.trueState == .stop)
  }

  @Test func `the simulated device refuses with the kernel's numbers`() throws {
    let device = SimulatedV2Device(name: "nic0", features: [.stopCopy, .precopy])
    func errno(_ state: DeviceState) -> DeviceErrno? {
      refusal { () throws(DeviceError) in _ = try device.setState(state) }?.errno
    }
    #expect(errno(.runningP2P) == .einval && errno(.error) == .einval)
    #expect(device.trueState == .running)
    let session = try device.setState(.precopy)
    var bytes = [UInt8](repeating: 0, count: 8)
    func read() -> DeviceErrno? {
      refusal { () throws(DeviceError) in
        _ = try DeviceBytes.writing(&bytes, first: 8) { (span) throws(DeviceError) in
          try session?.read(into: &span)
        }
      }?.errno
    }
    #expect(read() == nil)
    #expect(try device.setState(.stopCopy) == nil)
    #expect(errno(.precopy) == .einval)
    #expect(read() == nil)
    #expect(
      refusal { () throws(DeviceError) in _ = try session?.precopyInfo() }?.errno == .einval)
    _ = try device.setState(.stop)
    #expect(read() == .enodev)
    session?.close()
    #expect(read() == .ebadf)
    _ = try device.setState(.resuming)
    #expect(errno(.stop) == .einval && device.trueState == .error)
    #expect(errno(.running) == .einval)
  }
}
