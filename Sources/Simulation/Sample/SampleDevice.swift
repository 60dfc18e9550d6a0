import Addressing
public import DeviceMigration
import Locking

/// One device of a sample machine: the simulated hardware, its migration interface, its DMA.
public final class SampleDevice: Sendable {
  public let name: String
  public let container: SampleContainer.Kind
  public let migratable: any MigratableDevice
  let hardware: any WorkingDevice
  let traffic: DMATraffic
  let thread: StepThread
  private let configuration: SimulatedConfigurationSpace

  /// Equal on source and destination when the device's state has arrived.
  public var stateDigest: UInt64 { hardware.stateDigest }
  /// The same for its PCI configuration.
  public var configurationDigest: UInt64 {
    let (bytes, entries) = configuration.content
    var digest: UInt64 = 0xcbf2_9ce4_8422_2325
    func take(_ value: UInt64) { digest = (digest ^ value) &* 0x100_0000_01b3 }
    for byte in bytes { take(UInt64(byte)) }
    for entry in entries {
      take(entry.address)
      take(UInt64(entry.data))
      take(UInt64(entry.control))
    }
    return digest
  }
  /// DMA writes that reached memory.
  public var writeCount: UInt64 { traffic.writeCount }
  /// DMA writes that no mapping let through.
  public var refusedCount: UInt64 { traffic.refusedCount }

  init(
    name: String, container: SampleContainer.Kind, hardware: any WorkingDevice,
    migratable: any MigratableDevice, configuration: SimulatedConfigurationSpace,
    traffic: DMATraffic, writesPerSecond: UInt64
  ) {
    self.name = name
    self.container = container
    self.hardware = hardware
    self.migratable = migratable
    self.configuration = configuration
    self.traffic = traffic
    thread = StepThread(name: "dma-\(name)", stepsPerSecond: writesPerSecond) {
      traffic.step(generation: 1)
    }
  }
}

extension SampleDevice {
  /// What the guest's firmware and driver do to a fresh device: its BAR, its vectors, its command.
  func bootConfiguration(_ number: Int) throws(DeviceError) {
    // Inside the window of `SampleModel`, 64 KiB apart.
    let bar = SampleModel.windowFirst &+ UInt64(number) << 16
    try configuration.writeConfiguration(
      UInt32(truncatingIfNeeded: bar), at: 0x10, byteCount: 4)
    try configuration.writeConfiguration(
      UInt32(truncatingIfNeeded: bar >> 32), at: 0x14, byteCount: 4)
    for vector in 0..<4 {
      try configuration.writeMSIXEntry(
        MSIXEntry(address: 0xfee0_0000, data: UInt32(32 + 8 * number + vector), control: 0),
        at: vector)
    }
    // Memory and bus mastering.
    try configuration.writeConfiguration(0x6, at: 4, byteCount: 2)
  }
}
