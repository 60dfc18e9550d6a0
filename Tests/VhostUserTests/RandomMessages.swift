import TestSupport
import VhostUser

/// Messages of every kind with random fields, all of them within bounds.
extension SeededGenerator {
  mutating func message(_ request: FrontEndRequest) -> FrontEndMessage {
    switch request {
    case .getFeatures: .getFeatures
    case .setFeatures: .setFeatures(VirtioFeatures(rawValue: next()))
    case .setOwner: .setOwner
    case .resetOwner: .resetOwner
    case .resetDevice: .resetDevice
    case .getProtocolFeatures: .getProtocolFeatures
    case .setProtocolFeatures: .setProtocolFeatures(ProtocolFeatures(rawValue: next()))
    case .getQueueCount: .getQueueCount
    case .getMemorySlotCount: .getMemorySlotCount
    case .setMemoryTable:
      .setMemoryTable((0..<below(CompanionLimits.tableRegionCountMax + 1)).map { _ in region() })
    case .addMemoryRegion: .addMemoryRegion(region())
    case .removeMemoryRegion: .removeMemoryRegion(region())
    case .setLogBase: .setLogBase(LogDescription(byteCount: next(), offset: next()))
    case .setLogDescriptor: .setLogDescriptor
    case .setRingSize: .setRingSize(ringNumber())
    case .setRingAddress:
      .setRingAddress(
        RingAddress(
          ring: ring(), flags: UInt32(truncatingIfNeeded: next()), descriptors: next(),
          used: next(), available: next(), log: next()))
    case .setRingBase: .setRingBase(ringNumber())
    case .getRingBase: .getRingBase(ringNumber())
    case .setRingKick: .setRingKick(ringDescriptor())
    case .setRingCall: .setRingCall(ringDescriptor())
    case .setRingError: .setRingError(ringDescriptor())
    case .setRingEnable: .setRingEnable(RingNumber(ring: ring(), value: UInt32(below(2))))
    case .getConfiguration: .getConfiguration(configuration())
    case .setConfiguration: .setConfiguration(configuration())
    }
  }

  mutating func region() -> RAMRegionDescription {
    RAMRegionDescription(
      gpa: next(), byteCount: next(), userAddress: next(), fileOffset: next())
  }

  private mutating func ring() -> UInt32 { UInt32(below(Int(CompanionLimits.ringCountMax))) }

  private mutating func ringNumber() -> RingNumber {
    RingNumber(ring: ring(), value: UInt32(truncatingIfNeeded: next()))
  }

  private mutating func ringDescriptor() -> RingDescriptor {
    RingDescriptor(ring: UInt8(ring()), hasDescriptor: once(in: 2))
  }

  private mutating func configuration() -> ConfigurationAccess {
    let count = below(CompanionLimits.configurationByteCount + 1)
    return ConfigurationAccess(
      offset: UInt32(below(CompanionLimits.configurationByteCount - count + 1)),
      flags: UInt32(below(2)), bytes: (0..<count).map { _ in UInt8(below(256)) })
  }
}
