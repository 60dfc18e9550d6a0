/// How a device migrates.
public enum MigrationInterface: Hashable, Sendable, CustomStringConvertible {
  /// Not at all; `reason` is a clause for people, without full stop.
  case none(reason: String)
  /// The migration region of Linux 5.8 to 5.17.
  case v1
  /// VFIO_DEVICE_FEATURE_MIGRATION.
  case v2(MigrationFeatures)

  public var isMigratable: Bool {
    if case .none = self { false } else { true }
  }

  /// May migrate together with other devices: it can be brought to start no DMA while the others
  /// still work. v1 has no such state.
  public var hasP2P: Bool {
    if case .v2(let features) = self { features.contains(.p2p) } else { false }
  }

  /// Gives state while the device works.
  public var hasPrecopy: Bool {
    switch self {
    case .none: false
    case .v1: true
    case .v2(let features): features.contains(.precopy)
    }
  }

  /// `v1`, `v2 STOP_COPY|P2P`, `none (reason)`.
  public var description: String {
    switch self {
    case .none(let reason): "none (\(reason))"
    case .v1: "v1"
    case .v2(let features): "v2 \(features)"
    }
  }
}
