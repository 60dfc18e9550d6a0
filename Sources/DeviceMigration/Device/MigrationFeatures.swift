/// What a device can do for its migration, the flags of VFIO_DEVICE_FEATURE_MIGRATION
/// (`linux/vfio.h`).
public struct MigrationFeatures: OptionSet, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// STOP, STOP_COPY and RESUMING exist; without it nothing does.
  public static let stopCopy = MigrationFeatures(rawValue: 1)
  /// RUNNING_P2P exists: needed by a device that migrates together with others.
  public static let p2p = MigrationFeatures(rawValue: 2)
  /// PRE_COPY exists: state can be read while the device works.
  public static let precopy = MigrationFeatures(rawValue: 4)

  /// `STOP_COPY|P2P`, `none`; unknown bits in hexadecimal.
  public var description: String {
    var words: [String] = []
    if contains(.stopCopy) { words.append("STOP_COPY") }
    if contains(.p2p) { words.append("P2P") }
    if contains(.precopy) { words.append("PRE_COPY") }
    if rawValue & ~7 != 0 { words.append("0x" + String(rawValue & ~7, radix: 16)) }
    return words.isEmpty ? "none" : words.joined(separator: "|")
  }
}
