/// What the service does for one VM.
///
/// Nothing is checked here: ``check(_:place:)`` looks at all VMs of a process together, because no
/// socket may serve two of them.
public struct VMConfiguration: Sendable, Hashable {
  /// Its name in the log and in the status, unique in the process.
  public var name: String
  public var devices: [DeviceConfiguration]
  /// The path of the companion's socket, where the VMM finds it.
  public var companion: String
  /// Where the service of the destination is reached, as ``MigrationTransport/MigrationAddress``
  /// has it; nil when the state of devices goes nowhere.
  public var peer: String?
  /// The path of a socket where the status is given.
  public var observe: String?
  /// A migration is refused while a mapping has no place in the VM's RAM.
  public var isStrict: Bool
  /// How long after a sync the next one begins while the VMM logs.
  public var syncPeriodMilliseconds: Int
  /// Steps left out on purpose.
  public var omissions: Set<ServiceOmission>

  public static let defaultSyncPeriodMilliseconds = 100
  public static let syncPeriodsMilliseconds = 1...60_000
  /// `sun_path` less its closing zero.
  public static let socketPathByteCountMax = 107

  public init(
    name: String, devices: [DeviceConfiguration] = [], companion: String, peer: String? = nil,
    observe: String? = nil, isStrict: Bool = false,
    syncPeriodMilliseconds: Int = VMConfiguration.defaultSyncPeriodMilliseconds,
    omissions: Set<ServiceOmission> = []
  ) {
    self.name = name
    self.devices = devices
    self.companion = companion
    self.peer = peer
    self.observe = observe
    self.isStrict = isStrict
    self.syncPeriodMilliseconds = syncPeriodMilliseconds
    self.omissions = omissions
  }
}
