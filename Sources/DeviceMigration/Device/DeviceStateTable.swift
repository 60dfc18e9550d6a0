/// What one arc of the state machine does to the data session.
public enum SessionEffect: Hashable, Sendable {
  /// There is none before and none after.
  case none
  /// The device hands out a new session.
  case opens
  /// The session before goes on.
  case keeps
  /// The session before is over.
  case ends

  /// Of the arc between two neighbouring states. A state either has a session or not, and no arc
  /// joins a saving state to RESUMING, so the two ends decide.
  public init(from: DeviceState, to: DeviceState) {
    switch (from.hasSession, to.hasSession) {
    case (false, false): self = .none
    case (false, true): self = .opens
    case (true, true): self = .keeps
    case (true, false): self = .ends
    }
  }
}

/// The next-hop table of the v2 state machine (`vfio_mig_get_next_state`,
/// `drivers/vfio/vfio_main.c`) for a device with given features.
///
/// Terms: an **arc** is one change the driver makes; a **path** is the arcs from one state to
/// another.
///
/// Invariants:
/// 1. A path has at most one arc for each state there is, and no state twice.
/// 2. No path leads through a saving state, unless it began in one and ends in STOP_COPY or
///    another saving state.
/// 3. An optional state the device lacks is stepped over: the arc goes to where the table leads
///    from there.
/// 4. ERROR is never asked for and never left.
public struct DeviceStateTable: Hashable, Sendable {
  public let features: MigrationFeatures

  public init(features: MigrationFeatures) { self.features = features }

  public func supports(_ state: DeviceState) -> Bool {
    state.requiredFeatures.map { features.isSuperset(of: $0) } ?? false
  }

  /// Where the first arc from `current` towards `target` leads; `current` when they are one.
  /// Nil where the kernel answers EINVAL.
  public func nextHop(from current: DeviceState, to target: DeviceState) -> DeviceState? {
    guard supports(current), supports(target) else { return nil }
    var hop = Self.full(current, target)
    while let state = hop, !supports(state) { hop = Self.full(state, target) }
    return hop
  }

  /// The states after `current`, `target` last; empty when they are one. Nil where the kernel
  /// answers EINVAL.
  public func path(from current: DeviceState, to target: DeviceState) -> [DeviceState]? {
    var states: [DeviceState] = []
    var at = current
    repeat {
      guard let next = nextHop(from: at, to: target) else { return nil }
      if next == at { return states }
      states.append(next)
      at = next
    } while at != target
    return states
  }

  /// The table with all features; nil stands for ERROR.
  private static func full(_ current: DeviceState, _ target: DeviceState) -> DeviceState? {
    if target == .error { return nil }
    if current == target { return current == .error ? nil : current }
    switch current {
    case .error: return nil
    case .stop:
      switch target {
      case .stopCopy, .resuming: return target
      default: return .runningP2P
      }
    case .running: return target == .precopy ? .precopy : .runningP2P
    case .stopCopy: return target.isPrecopy ? nil : .stop
    case .resuming: return .stop
    case .runningP2P:
      switch target {
      case .running, .precopy: return .running
      case .precopyP2P: return .precopyP2P
      default: return .stop
      }
    case .precopy: return target.isSaving ? .precopyP2P : .running
    case .precopyP2P:
      switch target {
      case .stopCopy, .precopy: return target
      default: return .runningP2P
      }
    }
  }
}
