/// What the operator of a migration decides.
public struct MigrationPolicy: Sendable, Hashable {
  /// What happens when the rounds do not bring the predicted downtime under the limit.
  public enum NotConverging: Sendable, Hashable {
    /// Rounds go on until somebody cancels.
    case keepGoing
    /// After so many rounds the guest is stopped, whatever the prediction.
    case stopAnyway(afterRounds: Int)
    /// After so many rounds the migration fails, and the guest runs on here.
    case giveUp(afterRounds: Int)
  }

  /// The guest is stopped when the predicted downtime is within this.
  public var downtimeLimitNanoseconds: UInt64 = 300_000_000
  /// The guest is not stopped after fewer rounds than this, whatever the prediction.
  public var roundCountMin = 1
  public var notConverging = NotConverging.stopAnyway(afterRounds: 30)
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
