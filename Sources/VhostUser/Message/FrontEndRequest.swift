/// What a front-end may ask, by its number on the wire (vhost-user specification, "Front-end
/// message types"). Only what a vhost-user-blk front-end of QEMU sends to a back-end that offers
/// ``ProtocolFeatures/offered``; everything else is refused by its number.
public enum FrontEndRequest: UInt32, CaseIterable, Sendable {
  case getFeatures = 1
  case setFeatures = 2
  case setOwner = 3
  case resetOwner = 4
  case setMemoryTable = 5
  case setLogBase = 6
  case setLogDescriptor = 7
  case setRingSize = 8
  case setRingAddress = 9
  case setRingBase = 10
  case getRingBase = 11
  case setRingKick = 12
  case setRingCall = 13
  case setRingError = 14
  case getProtocolFeatures = 15
  case setProtocolFeatures = 16
  case getQueueCount = 17
  case setRingEnable = 18
  case getConfiguration = 24
  case setConfiguration = 25
  case resetDevice = 34
  case getMemorySlotCount = 36
  case addMemoryRegion = 37
  case removeMemoryRegion = 38

  /// Bytes of payload a message of this kind has.
  var payloadByteCounts: ClosedRange<UInt32> {
    switch self {
    case .getFeatures, .setOwner, .resetOwner, .setLogDescriptor, .getProtocolFeatures,
      .getQueueCount, .resetDevice, .getMemorySlotCount:
      0...0
    case .setFeatures, .setProtocolFeatures, .setRingKick, .setRingCall, .setRingError,
      .setRingSize, .setRingBase, .getRingBase, .setRingEnable:
      8...8
    case .setLogBase: 16...16
    case .setRingAddress, .addMemoryRegion, .removeMemoryRegion: 40...40
    case .setMemoryTable: 8...UInt32(8 + 32 * CompanionLimits.tableRegionCountMax)
    case .getConfiguration, .setConfiguration:
      12...UInt32(12 + CompanionLimits.configurationByteCount)
    }
  }

  /// The protocol feature without which it may not be sent.
  var neededFeature: ProtocolFeatures? {
    switch self {
    case .getQueueCount: .multiQueue
    case .getConfiguration, .setConfiguration: .configuration
    case .getMemorySlotCount, .addMemoryRegion, .removeMemoryRegion: .memorySlots
    default: nil
    }
  }
}
