import Addressing
public import GuestDirtyLog

/// Why a migration can not begin. Found before anything is changed.
public enum MigrationBlocker: Hashable, Sendable, CustomStringConvertible {
  case noInterface(device: String, reason: String)
  /// One of several devices can not be kept from accessing the others while they stop.
  case noP2P(device: String, others: Int)
  case postcopyRequested
  case deviceNotReady(device: String, state: DeviceState)
  case deviceNameTaken(String)
  case tooManyDevices(count: Int, limit: Int)
  case nameTooLong(String)
  case noRAM
  /// What the dirty tracking says, a sentence.
  case tracking(String)

  public var description: String {
    switch self {
    case .noInterface(let device, let reason):
      "device \(device) has no migration interface: \(reason)"
    case .noP2P(let device, let others):
      "device \(device) has no P2P state and may access \(others) other devices while they stop; "
        + "say that it starts no peer-to-peer DMA where the guest can not make it"
    case .postcopyRequested:
      "post-copy was asked for; a device on the destination can not wait for a page"
    case .deviceNotReady(let device, let state):
      "device \(device) is in \(state); a migration begins from RUNNING or STOP"
    case .deviceNameTaken(let name): "there are two devices named \(name)"
    case .tooManyDevices(let count, let limit): "\(count) devices are over the limit of \(limit)"
    case .nameTooLong(let name): "the name \(name.prefix(32))… does not fit the stream"
    case .noRAM: "the guest has no RAM"
    case .tracking(let sentence): sentence
    }
  }

  /// All of them, devices in their order. Changes nothing.
  public static func find(
    devices: [MigratingDevice], regions: [RAMRegion], trackingBlockers: [String],
    policy: MigrationPolicy
  ) -> [MigrationBlocker] {
    var found: [MigrationBlocker] = policy.wantsPostcopy ? [.postcopyRequested] : []
    if regions.isEmpty { found.append(.noRAM) }
    if devices.count > Limits.deviceCountMax {
      found.append(.tooManyDevices(count: devices.count, limit: Limits.deviceCountMax))
    }
    var names: Set<String> = []
    for entry in devices {
      let device = entry.device
      if !names.insert(device.name).inserted { found.append(.deviceNameTaken(device.name)) }
      if case .none(let reason) = device.interface {
        found.append(.noInterface(device: device.name, reason: reason))
        continue
      }
      if devices.count > 1, !device.interface.hasP2P, entry.startsPeerToPeer,
        policy.guestUsesPeerToPeer
      {
        found.append(.noP2P(device: device.name, others: devices.count - 1))
      }
      if device.state != .running && device.state != .stop {
        found.append(.deviceNotReady(device: device.name, state: device.state))
      }
    }
    for name in devices.map(\.device.name) + regions.map(\.name)
    where name.utf8.count > StreamFormat.textByteCountMax {
      found.append(.nameTooLong(name))
    }
    return found + trackingBlockers.map { .tracking($0) }
  }
}
