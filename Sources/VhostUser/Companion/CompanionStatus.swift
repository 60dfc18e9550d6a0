/// Where a companion stands.
public enum CompanionPhase: Hashable, Sendable {
  case notConnected
  /// A front-end is there and the guest has not started the device: QEMU logs nothing for it, and
  /// would never say so.
  case connected
  case started
  /// A stop is being answered.
  case stopping
  /// A stop was answered and the device not started since.
  case stopped
}

/// What a companion is doing, for people and for decisions.
public struct CompanionStatus: Hashable, Sendable {
  public var phase: CompanionPhase
  /// The front-end wants what is written logged (VHOST_F_LOG_ALL).
  public var wantsLog: Bool
  /// The delegate was told that tracking runs.
  public var isTracking: Bool
  /// Why the log that the front-end gave is not used; a stop will be refused.
  public var logFailure: VhostUserError?
  /// Devices are quiet since a stop that was answered.
  public var isQuiet: Bool
  /// Why the last connection ended.
  public var lastDisconnection: VhostUserError?
  /// Front-ends that came while one was connected.
  public var refusedFrontEndCount: Int
}
