/// `device_state` of the v1 migration region (`VFIO_DEVICE_STATE_V1_*`, `linux/vfio.h`): three bits
/// that mean something, 29 that belong to the device and are written back as they were read.
///
///     RESUMING SAVING RUNNING
///        0       0       1     running        0 1 0  stop-and-copy    1 1 0  error
///        0       1       1     pre-copy       0 0 0  stopped          1 0 1  invalid
///                                             1 0 0  resuming         1 1 1  invalid
public struct DeviceStateV1: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  public init(_ rawValue: UInt32) { self.rawValue = rawValue }

  public static let runningBit: UInt32 = 1
  public static let savingBit: UInt32 = 2
  public static let resumingBit: UInt32 = 4
  /// The bits this interface defines.
  public static let mask: UInt32 = 7

  /// The defined bits alone.
  public var bits: UInt32 { rawValue & Self.mask }

  /// The state in the words of v2; nil for the two combinations that mean nothing.
  public var v2Equivalent: DeviceState? {
    switch bits {
    case 0: .stop
    case Self.runningBit: .running
    case Self.runningBit | Self.savingBit: .precopy
    case Self.savingBit: .stopCopy
    case Self.resumingBit: .resuming
    case Self.resumingBit | Self.savingBit: .error
    default: nil
    }
  }

  public var isValid: Bool { v2Equivalent != nil }

  /// The bits of a state; nil for one v1 can not be asked for: the P2P states and ERROR.
  public static func bits(of state: DeviceState) -> UInt32? {
    switch state {
    case .stop: 0
    case .running: runningBit
    case .precopy: runningBit | savingBit
    case .stopCopy: savingBit
    case .resuming: resumingBit
    case .error, .runningP2P, .precopyP2P: nil
    }
  }

  /// This value with the defined bits of `state` and the others as they are.
  public func replaced(by state: DeviceState) -> DeviceStateV1? {
    Self.bits(of: state).map { DeviceStateV1(rawValue & ~Self.mask | $0) }
  }

  /// `_RUNNING|_SAVING`, `_STOPPED`, `error`, `invalid 0x5`.
  public var description: String {
    switch v2Equivalent {
    case .error: return "error"
    case .stop: return "_STOPPED"
    case nil: return "invalid 0x" + String(bits, radix: 16)
    default: break
    }
    var words: [String] = []
    if bits & Self.runningBit != 0 { words.append("_RUNNING") }
    if bits & Self.savingBit != 0 { words.append("_SAVING") }
    if bits & Self.resumingBit != 0 { words.append("_RESUMING") }
    return words.joined(separator: "|")
  }
}
