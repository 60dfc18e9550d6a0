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

  // MARK: reading the log
  //
  // A migration goes to the log by way of whoever keeps it, so that a record of what happened has
  // its part too. Unless said otherwise each of these is the log's own.

  func addConsumer(_ name: String, startsDirty: Bool) throws(GuestDirtyLogError) -> ConsumerID
  func removeConsumer(_ consumer: ConsumerID)
  func harvest(for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int) -> Harvest
  func delivered(_ harvest: Harvest)
  @discardableResult func putBack(_ harvest: Harvest) -> MarkCount
  @discardableResult func putBackAll(for consumer: ConsumerID) -> MarkCount
  /// Takes the sticky mark away: a new attempt sends everything in any case.
  func resetAllDirty()
  /// Every page counts as written.
  @discardableResult func markEverything() -> MarkCount
}

extension GuestDirtyTracking {
  public func addConsumer(
    _ name: String, startsDirty: Bool
  ) throws(GuestDirtyLogError) -> ConsumerID {
    try log.addConsumer(name, startsDirty: startsDirty)
  }

  public func removeConsumer(_ consumer: ConsumerID) { log.removeConsumer(consumer) }

  public func harvest(
    for consumer: ConsumerID, pageCountMax: UInt64, runCountMax: Int
  ) -> Harvest {
    log.harvest(for: consumer, pageCountMax: pageCountMax, runCountMax: runCountMax)
  }

  public func delivered(_ harvest: Harvest) { log.delivered(harvest) }

  @discardableResult
  public func putBack(_ harvest: Harvest) -> MarkCount { log.putBack(harvest) }

  @discardableResult
  public func putBackAll(for consumer: ConsumerID) -> MarkCount { log.putBackAll(for: consumer) }

  public func resetAllDirty() { log.resetAllDirty() }

  @discardableResult
  public func markEverything() -> MarkCount { log.markEverything(by: .conservative(nil)) }
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
