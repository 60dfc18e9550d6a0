/// A message of the front-end, without its descriptors.
///
/// Terms: a **ring** is what virtio calls a virtqueue and the protocol a vring.
public enum FrontEndMessage: Hashable, Sendable {
  case getFeatures
  case setFeatures(VirtioFeatures)
  case setOwner
  case resetOwner
  case resetDevice
  case getProtocolFeatures
  case setProtocolFeatures(ProtocolFeatures)
  case getQueueCount
  case getMemorySlotCount
  /// Replaces all regions; a descriptor for each, in order.
  case setMemoryTable([RAMRegionDescription])
  case addMemoryRegion(RAMRegionDescription)
  case removeMemoryRegion(RAMRegionDescription)
  case setLogBase(LogDescription)
  case setLogDescriptor
  case setRingSize(RingNumber)
  case setRingAddress(RingAddress)
  case setRingBase(RingNumber)
  /// Stops the ring; the answer says where it stands.
  case getRingBase(RingNumber)
  case setRingKick(RingDescriptor)
  case setRingCall(RingDescriptor)
  case setRingError(RingDescriptor)
  case setRingEnable(RingNumber)
  case getConfiguration(ConfigurationAccess)
  case setConfiguration(ConfigurationAccess)

  public var request: FrontEndRequest {
    switch self {
    case .getFeatures: .getFeatures
    case .setFeatures: .setFeatures
    case .setOwner: .setOwner
    case .resetOwner: .resetOwner
    case .resetDevice: .resetDevice
    case .getProtocolFeatures: .getProtocolFeatures
    case .setProtocolFeatures: .setProtocolFeatures
    case .getQueueCount: .getQueueCount
    case .getMemorySlotCount: .getMemorySlotCount
    case .setMemoryTable: .setMemoryTable
    case .addMemoryRegion: .addMemoryRegion
    case .removeMemoryRegion: .removeMemoryRegion
    case .setLogBase: .setLogBase
    case .setLogDescriptor: .setLogDescriptor
    case .setRingSize: .setRingSize
    case .setRingAddress: .setRingAddress
    case .setRingBase: .setRingBase
    case .getRingBase: .getRingBase
    case .setRingKick: .setRingKick
    case .setRingCall: .setRingCall
    case .setRingError: .setRingError
    case .setRingEnable: .setRingEnable
    case .getConfiguration: .getConfiguration
    case .setConfiguration: .setConfiguration
    }
  }

  /// Descriptors that come with it.
  public var descriptorCounts: ClosedRange<Int> {
    switch self {
    case .setMemoryTable(let regions): regions.count...regions.count
    case .addMemoryRegion: 1...1
    // Some front-ends send the region's own once more; it is of no use.
    case .removeMemoryRegion: 0...1
    // A log without one cannot be used. That is said when QEMU stops the VM, not here, see
    // ``CompanionCore``.
    case .setLogBase: 0...1
    case .setLogDescriptor: 1...1
    case .setRingKick(let ring), .setRingCall(let ring), .setRingError(let ring):
      ring.hasDescriptor ? 1...1 : 0...0
    default: 0...0
    }
  }
}

/// One region of guest memory, as the front-end describes it. All in bytes.
public struct RAMRegionDescription: Hashable, Sendable {
  public var gpa: UInt64
  public var byteCount: UInt64
  /// Where the front-end itself sees it.
  public var userAddress: UInt64
  /// Where it begins in the descriptor's file.
  public var fileOffset: UInt64

  public init(gpa: UInt64, byteCount: UInt64, userAddress: UInt64, fileOffset: UInt64) {
    self.gpa = gpa
    self.byteCount = byteCount
    self.userAddress = userAddress
    self.fileOffset = fileOffset
  }
}

/// Where a dirty log lies in its descriptor's file, in bytes.
public struct LogDescription: Hashable, Sendable {
  public var byteCount: UInt64
  public var offset: UInt64

  public init(byteCount: UInt64, offset: UInt64) {
    self.byteCount = byteCount
    self.offset = offset
  }
}

/// A number about one ring: its size, its base, or whether it is enabled.
public struct RingNumber: Hashable, Sendable {
  /// Below ``CompanionLimits/ringCountMax``.
  public var ring: UInt32
  public var value: UInt32

  public init(ring: UInt32, value: UInt32) {
    self.ring = ring
    self.value = value
  }
}

/// A ring and whether a descriptor for it came along; without one it is to be polled.
public struct RingDescriptor: Hashable, Sendable {
  public var ring: UInt8
  public var hasDescriptor: Bool

  public init(ring: UInt8, hasDescriptor: Bool) {
    self.ring = ring
    self.hasDescriptor = hasDescriptor
  }
}

/// Where a ring lies. The companion reads none of it.
public struct RingAddress: Hashable, Sendable {
  public var ring: UInt32
  /// Bit 0: writes of the used ring are to be logged.
  public var flags: UInt32
  public var descriptors: UInt64
  public var used: UInt64
  public var available: UInt64
  public var log: UInt64

  public init(
    ring: UInt32, flags: UInt32, descriptors: UInt64, used: UInt64, available: UInt64, log: UInt64
  ) {
    self.ring = ring
    self.flags = flags
    self.descriptors = descriptors
    self.used = used
    self.available = available
    self.log = log
  }
}

/// Bytes of the device's configuration space.
public struct ConfigurationAccess: Hashable, Sendable {
  public var offset: UInt32
  public var flags: UInt32
  public var bytes: [UInt8]

  public init(offset: UInt32, flags: UInt32, bytes: [UInt8]) {
    self.offset = offset
    self.flags = flags
    self.bytes = bytes
  }
}
