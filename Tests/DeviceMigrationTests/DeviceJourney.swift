import DeviceMigration
import Simulation
import Testing

/// A simulated device with what drives it, of either interface.
struct DeviceUnderTest {
  let device: any MigratableDevice
  let working: any WorkingDevice
  let faults: DeviceFaults
  let trueState: () -> DeviceState

  static func v2(
    _ name: String = "nic0", _ features: MigrationFeatures = [.stopCopy, .p2p, .precopy],
    options: SimulatedDeviceOptions = .init(pageCount: 4), configuration: PCIConfiguration? = nil
  ) -> DeviceUnderTest {
    let device = SimulatedV2Device(name: name, features: features, options: options)
    return DeviceUnderTest(
      device: MigratableDeviceV2(name: name, migration: device, configuration: configuration),
      working: device, faults: device.faults, trueState: { device.trueState })
  }

  static func v1(
    _ name: String = "nic1", options: SimulatedDeviceOptions = .init(pageCount: 6),
    configuration: PCIConfiguration? = nil
  ) -> DeviceUnderTest {
    let device = SimulatedV1Device(name: name, options: options)
    return DeviceUnderTest(
      device: MigratableDeviceV1(name: name, migration: device, configuration: configuration),
      working: device, faults: device.faults, trueState: { device.trueState })
  }

  static let kinds: [@Sendable () -> DeviceUnderTest] = [
    { v2("v2 full") }, { v2("v2 without PRE_COPY", [.stopCopy, .p2p]) },
    { v2("v2 without P2P", [.stopCopy, .precopy]) }, { v2("v2 plain", [.stopCopy]) },
    {
      v2(
        "v2 like mtty",
        options: .init(
          pageCount: 3, endsInsteadOfTemporaryEnd: true, saysDataSize: false,
          byteCountPerCall: 3000))
    },
    { v1("v1") },
  ]
}

/// The steps a front-end takes with one device.
enum DeviceJourney {
  /// The whole save path, the device working meanwhile. Returns the chunks.
  static func save(_ under: DeviceUnderTest) throws(DeviceError) -> [[UInt8]] {
    var chunks: [[UInt8]] = []
    try under.device.beginPrecopy()
    for round in 0..<3 {
      try drain(under.device, into: &chunks)
      _ = under.device.pendingEstimate()
      under.working.work(3, seed: UInt64(round) &+ 77)
    }
    try under.device.enterP2P()
    under.working.work(2, seed: 99)
    try under.device.beginStopCopy()
    try drain(under.device, into: &chunks)
    try under.device.finishSaving()
    return chunks
  }

  /// Saves and gives up before the end.
  static func cancel(_ under: DeviceUnderTest) throws(DeviceError) -> DeviceRecovery {
    var chunks: [[UInt8]] = []
    try under.device.beginPrecopy()
    try drain(under.device, into: &chunks)
    try under.device.enterP2P()
    try under.device.beginStopCopy()
    var buffer: [UInt8] = []
    _ = try under.device.nextChunk(into: &buffer, byteCountMax: 1 << 16)
    return try under.device.recover()
  }

  static func load(_ chunks: [[UInt8]], _ under: DeviceUnderTest) throws(DeviceError) {
    try under.device.beginResuming()
    for chunk in chunks {
      try DeviceBytes.reading(chunk) { (bytes) throws(DeviceError) in try under.device.load(bytes) }
    }
    try under.device.finishResuming()
    try under.device.prepareToRun()
    try under.device.run()
  }

  static func drain(
    _ device: any MigratableDevice, into chunks: inout [[UInt8]]
  ) throws(DeviceError) {
    var buffer: [UInt8] = []
    while try device.nextChunk(into: &buffer, byteCountMax: 10_000) == .chunk {
      chunks.append(buffer)
    }
  }
}
