import Addressing
import DeviceMigration

/// What a device of the roster is; beyond the fourth they come again with higher numbers.
enum SampleModel: CaseIterable {
  /// v2 with all states, dirty bits of the IOMMU.
  case network
  /// v2 without PRE_COPY, in the same container.
  case storage
  /// v1, mediated: pins what it writes.
  case graphics
  /// v2 without P2P, logs its own DMA.
  case accelerator

  static func model(_ index: Int) -> SampleModel { allCases[index % allCases.count] }

  var container: SampleContainer.Kind {
    switch self {
    case .network, .storage: .hardware
    case .graphics: .pinned
    case .accelerator: .deviceLog
    }
  }

  func name(_ index: Int) -> String {
    let number = index / Self.allCases.count
    switch self {
    case .network: return "nic\(number)"
    case .storage: return "nvme\(number)"
    case .graphics: return "vgpu\(number)"
    case .accelerator: return "qat\(number)"
    }
  }

  private static let pageCounts: [SampleModel: Int] = [
    .network: 64, .storage: 96, .graphics: 256, .accelerator: 32,
  ]

  /// Where BARs may lie.
  static let windowFirst: UInt64 = 1 << 40

  func hardware(_ name: String, _ sample: SampleOptions) -> SampleHardware {
    let options = SimulatedDeviceOptions(
      pageCount: min(Self.pageCounts[self] ?? 64, sample.devicePageCountMax))
    let space = SimulatedConfigurationSpace(
      name: name, bars: [SimulatedBar(0, .memory64, byteCount: 16 << 10)],
      faults: sample.deviceFaults)
    let windows = PCIWindows(
      memory: [Self.windowFirst...(2 * Self.windowFirst - 1)])
    let configuration = PCIConfiguration(space: space, windows: windows)
    let features: MigrationFeatures
    switch self {
    case .network: features = [.stopCopy, .p2p, .precopy]
    case .storage: features = [.stopCopy, .p2p]
    case .accelerator: features = [.stopCopy, .precopy]
    case .graphics:
      let device = SimulatedV1Device(name: name, options: options, faults: sample.deviceFaults)
      return SampleHardware(
        device: device,
        migratable: MigratableDeviceV1(
          name: name, migration: device, configuration: configuration),
        configuration: space)
    }
    let device = SimulatedV2Device(
      name: name, features: features, options: options, faults: sample.deviceFaults)
    return SampleHardware(
      device: device,
      migratable: MigratableDeviceV2(name: name, migration: device, configuration: configuration),
      configuration: space)
  }
}

struct SampleHardware {
  let device: any WorkingDevice
  let migratable: any MigratableDevice
  let configuration: SimulatedConfigurationSpace
}
