/// The state of a device as VFIO migration v2 names it (`enum vfio_device_mig_state`,
/// `linux/vfio.h`). States of the older v1 interface are given in these words too, see
/// ``DeviceStateV1/v2Equivalent``.
///
///     RUNNING ── PRE_COPY ─────────────┐        saving: PRE_COPY, PRE_COPY_P2P, STOP_COPY
///        │           │                 │        loading: RESUMING
///     RUNNING_P2P ─ PRE_COPY_P2P ── STOP_COPY   P2P: the device starts no DMA to other devices
///        │                             │        and answers theirs
///      STOP ───────────────────────────┘
///        │
///     RESUMING                                  ERROR is left only by a device reset
public enum DeviceState: UInt32, CaseIterable, Hashable, Sendable, CustomStringConvertible {
  case error = 0
  case stop = 1
  case running = 2
  case stopCopy = 3
  case resuming = 4
  case runningP2P = 5
  case precopy = 6
  case precopyP2P = 7

  /// What a device must support to have this state; nil for ERROR, which no one may ask for.
  public var requiredFeatures: MigrationFeatures? {
    switch self {
    case .error: nil
    case .stop, .running, .stopCopy, .resuming: .stopCopy
    case .runningP2P: [.stopCopy, .p2p]
    case .precopy: [.stopCopy, .precopy]
    case .precopyP2P: [.stopCopy, .p2p, .precopy]
    }
  }

  /// The device's data session gives bytes in this state.
  public var isSaving: Bool { self == .precopy || self == .precopyP2P || self == .stopCopy }

  /// A data session, in either direction, belongs to this state.
  public var hasSession: Bool { isSaving || self == .resuming }

  /// PRE_COPY or PRE_COPY_P2P: the device works and its state is being read.
  public var isPrecopy: Bool { self == .precopy || self == .precopyP2P }

  /// The kernel's name without its prefix: `RUNNING_P2P`.
  public var description: String {
    switch self {
    case .error: "ERROR"
    case .stop: "STOP"
    case .running: "RUNNING"
    case .stopCopy: "STOP_COPY"
    case .resuming: "RESUMING"
    case .runningP2P: "RUNNING_P2P"
    case .precopy: "PRE_COPY"
    case .precopyP2P: "PRE_COPY_P2P"
    }
  }
}
