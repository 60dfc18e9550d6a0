/// Feature bits of the device (VIRTIO 1.2, section 6, and vhost-user's own).
public struct VirtioFeatures: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// VHOST_F_LOG_ALL: what the back-end writes is to be logged. Offered so that QEMU can migrate
  /// at all; acknowledged only while it logs.
  public static let logAll = VirtioFeatures(rawValue: 1 << 26)
  /// VHOST_USER_F_PROTOCOL_FEATURES.
  public static let protocolFeatures = VirtioFeatures(rawValue: 1 << 30)
  /// VIRTIO_F_VERSION_1.
  public static let version1 = VirtioFeatures(rawValue: 1 << 32)

  /// What the companion offers. No feature of block devices: it never does I/O.
  public static let offered: VirtioFeatures = [.logAll, .protocolFeatures, .version1]
}

/// Feature bits of the protocol (VHOST_USER_PROTOCOL_F_).
public struct ProtocolFeatures: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  public static let multiQueue = ProtocolFeatures(rawValue: 1 << 0)
  /// The dirty log comes as a descriptor. Without it QEMU blocks migration.
  public static let logDescriptor = ProtocolFeatures(rawValue: 1 << 1)
  /// Messages that ask for it are acknowledged.
  public static let replyAcknowledgement = ProtocolFeatures(rawValue: 1 << 3)
  public static let configuration = ProtocolFeatures(rawValue: 1 << 9)
  /// VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS: regions are added and removed one by one.
  public static let memorySlots = ProtocolFeatures(rawValue: 1 << 15)

  public static let offered: ProtocolFeatures = [
    .multiQueue, .logDescriptor, .replyAcknowledgement, .configuration, .memorySlots,
  ]
}
