/// What a migration needs of whoever keeps the dirty log: the tracker, or a stand-in.
///
/// Every call is synchronous. None throws: where a backend fails, what it was asked about is marked
/// dirty and the report says so.
public protocol GuestDirtyTracking: AnyObject, Sendable {
  var log: GuestDirtyLog { get }

  /// Why this guest can not be migrated, a sentence each: RAM beyond a backend's bitmap limit, for
  /// one. Asked before anything is changed.
  var migrationBlockers: [String] { get }

  /// Starts every log. What can not be started is tracked as everything mapped, and said so.
  func startTracking() -> SyncReport

  /// Brings the dirt of vCPUs and devices into the log.
  /// - Parameter isFinal: devices and vCPUs are stopped. Pinned pages held back are reported now.
  func sync(isFinal: Bool) -> SyncReport

  /// Stops every log. Unread dirt is given up.
  func stopTracking() -> SyncReport

  /// Dirty pages held back for stop-and-copy, because they are pinned and would be dirty in every
  /// round.
  var heldBackPageCount: UInt64 { get }
}

/// What one start, sync or stop did.
public struct SyncReport: Sendable, Hashable {
  public struct ContainerShare: Sendable, Hashable {
    public var container: ContainerID
    public var name: String
    /// The scopes in use, the degraded ones included.
    public var scopes: [String]
    /// Calls this start, sync or stop made.
    public var backendCallCount = 0
    /// Calls for the guest's maps and unmaps since the report before.
    public var mappingCallCount = 0
    /// Set bits that reached the log, and those of them that were clean before.
    public var dirtyPages: UInt64 = 0
    public var newlyDirtyPages: UInt64 = 0
    public var heldBackPages: UInt64 = 0
    /// Pages an answer said to be dirty at IOVAs where no mapping is known: a VMM that drives its
    /// container tells it late. They have no page to mark; what is told later counts as written.
    public var unknownPages: UInt64 = 0

    public init(container: ContainerID, name: String, scopes: [String] = []) {
      self.container = container
      self.name = name
      self.scopes = scopes
    }
  }

  public var isFinal = false
  public var containers: [ContainerShare] = []
  public var vcpuDirtyPages: UInt64 = 0
  /// What went wrong or is not exact, a sentence each, with what was marked dirty for it.
  public var notes: [String] = []

  public init(isFinal: Bool = false) { self.isFinal = isFinal }

  public var backendCallCount: Int { containers.reduce(0) { $0 + $1.backendCallCount } }
  public var mappingCallCount: Int { containers.reduce(0) { $0 + $1.mappingCallCount } }
  public var dirtyPages: UInt64 { containers.reduce(vcpuDirtyPages) { $0 &+ $1.dirtyPages } }
}
