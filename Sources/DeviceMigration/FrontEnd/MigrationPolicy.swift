/// What the operator of a migration decides.
public struct MigrationPolicy: Sendable, Hashable {
  /// What happens when the rounds do not bring the predicted downtime under the limit.
  public enum NotConverging: Sendable, Hashable {
    /// Rounds go on until somebody cancels. The first that brings no progress is noted.
    case keepGoing
    /// After so many rounds, or ``MigrationPolicy/stalledRoundCountMax`` without progress, the
    /// guest is stopped, whatever the prediction. The report says by how much it missed the limit.
    case stopAnyway(afterRounds: Int)
    /// After so many rounds, or ``MigrationPolicy/stalledRoundCountMax`` without progress, the
    /// migration fails, and the guest runs on here.
    case giveUp(afterRounds: Int)
  }

  /// What the stop decision makes of a prediction that is only a lower bound, because a device does
  /// not say how much state it has left.
  public enum UnknownDeviceSize: Sendable, Hashable {
    /// The lower bound decides, and the decision says that it was one. A device before Linux 6.2
    /// never says, and its guest has to be movable.
    case lowerBoundDecides
    /// The guest is not stopped on a lower bound: it does not converge.
    case neverStops
  }

  /// The guest is stopped when the predicted downtime is within this.
  public var downtimeLimitNanoseconds: UInt64 = 300_000_000
  /// The guest is not stopped after fewer rounds than this, whatever the prediction.
  public var roundCountMin = 1
  public var unknownDeviceSize = UnknownDeviceSize.lowerBoundDecides
  public var notConverging = NotConverging.keepGoing
  /// Rounds in a row that bring no progress before a stop anyway, or before giving up.
  public var stalledRoundCountMax = 10
  /// How the guest is slowed in rounds that bring no progress; nil: it is not.
  public var throttle: VCPUThrottle?
  /// Refused by name: a device on the destination can not wait for a page.
  public var wantsPostcopy = false
  /// Whether devices of this guest may access each other directly. Say false only where the guest
  /// can not make them, by its IOMMU mappings or by the VMM's.
  public var guestUsesPeerToPeer = true
  /// Pages in one harvest.
  public var harvestPageCountMax: UInt64 = 2048
  /// Runs in one harvest.
  public var harvestRunCountMax = 4096
  /// Device state is read while the guest runs as long as a device has more than this. Bytes.
  public var devicePrecopyThresholdBytes: UInt64 = 64 << 10
  /// Device state read in one round, for one device, at most. Bytes.
  public var devicePrecopyRoundBytesMax: UInt64 = 256 << 20
  /// Asked for at once from a device. Bytes.
  public var chunkByteCountMax = DeviceChunk.byteCountDefault
  /// How many sends are made to fail on purpose, before their first byte, on pages with content:
  /// the harvest must be put back and its pages sent again. For tests and for `--break put-back`.
  public var rehearsedSendFailureCount = 0

  public init() {}
}

/// Steps left out on purpose, so that a verdict can be seen to fail. Default none.
public enum MigrationOmission: String, Hashable, Sendable, CaseIterable {
  /// A harvest that could not be sent is dropped instead of put back. One send of
  /// the last pass is made to fail.
  case putBack = "put-back"
}

/// A device as the VMM gives it to a migration.
public struct MigratingDevice {
  public let device: any MigratableDevice
  /// Whether it may start DMA to another device. A device without P2P states may migrate together
  /// with others only where it does not: it works on while they are being stopped.
  public let startsPeerToPeer: Bool

  public init(_ device: any MigratableDevice, startsPeerToPeer: Bool = true) {
    self.device = device
    self.startsPeerToPeer = startsPeerToPeer
  }
}
