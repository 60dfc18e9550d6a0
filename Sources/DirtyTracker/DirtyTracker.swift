public import EventTrace
public import GuestDirtyLog
import Locking

/// Which guest pages devices wrote, for devices behind a virtual IOMMU.
///
/// Terms:
/// - **Memory listener**: the VMM's word of what RAM there is and when it is read.
/// - **Credit**: to mark the GPA that a dirty IOVA meant when it was written.
/// - **Unwatched**: mapped writable, and no log knows what is written there: it counts as written.
/// - **Held back**: dirty in every round, so reported in the final sync only.
///
/// Invariants:
/// 1. A page that a device wrote between the start and the final sync is in the log.
/// 2. No GPA is taken from an unmap event; only the table knows what an IOVA meant.
/// 3. An unmap returns after its dirt is in the log.
/// 4. A query that fails or falls short makes everything mapped writable there count as written.
/// 5. A container without a log of any use reports everything it maps writable, never nothing.
/// 6. Questions change nothing and wait for no backend.
///
/// Locks: `control` is held over what changes the set of containers, of RAM regions, or whether
/// tracking runs, so that these do not overtake each other. `directory` finds a container and is
/// held for one look. Each container has its own, see ``TrackedContainer``. Order: gate, control,
/// container's operation, container's book, log. Maps, unmaps and syncs of different containers
/// never wait for each other, unless there is an event record: then `gate`, taken before all,
/// puts what happens in the one order in which it is recorded.
///
/// States:
///
///                 startTracking                  sync(isFinal: false)
///     idle -----------------------> tracking ----------------.
///      ^                             ^  |  |<----------------'
///      |        stopTracking         |  |  sync(isFinal: true)
///      '-----------------------------+--'  held-back pages reported, tracking goes on
///
public final class DirtyTracker: GuestDirtyTracking, Sendable {
  public let log: GuestDirtyLog
  public let policy: TrackerPolicy
  let settings: TrackerSettings
  let cpu: Mutex<CPUState>
  let control = Mutex(ControlState())
  let directory = Mutex(Directory())
  let notes = Mutex(TrackerNotes())
  /// One event at a time while there is a record.
  let gate = Mutex(Gate())

  struct Gate: Sendable {
    /// Of the last map or unmap, which saves the next one a look into the directory. Every other
    /// event forgets it, so it is never one that was removed.
    var recent: TrackedContainer?
  }

  struct ControlState: Sendable {
    var isTracking = false
    /// Between begin and commit: what the commit will do.
    var transaction: RAMTransaction?
  }

  struct Directory: Sendable {
    /// By number; a removed one leaves its place empty.
    var containers: [TrackedContainer?] = []
  }

  struct CPUState: Sendable {
    let source: (any CPUDirtySource)?
    var hasStarted = false
    /// A source that could not start, or failed to: everything counts as written.
    var failure: String?
  }

  /// - Parameters:
  ///   - log: where dirt goes. Its page size is the policy's.
  ///   - cpu: the source of vCPU dirt, asked by every sync after the devices; nil when the VMM
  ///     reports it by `vcpuWrote`.
  ///   - record: what happens is appended to it. Recording puts all events in one order, so that
  ///     replay gives the same state: then maps, unmaps and syncs do wait for each other.
  ///   - omitting: steps left out to prove that a verdict notices.
  public init(
    log: GuestDirtyLog, policy: TrackerPolicy = .init(), cpu: (any CPUDirtySource)? = nil,
    record: EventRecord? = nil, omitting: Set<TrackerOmission> = []
  ) {
    self.log = log
    self.policy = policy
    self.settings = TrackerSettings(
      log: log, memory: RAMLayout(), policy: policy, omitting: omitting, record: record)
    self.cpu = Mutex(CPUState(source: cpu))
    record?.append(.trackerMade(Self.configuration(policy, omitting)))
  }

  func container(_ id: ContainerID) throws(TrackerError) -> TrackedContainer {
    let found = directory.withLock { directory in
      Int(id.rawValue) < directory.containers.count ? directory.containers[Int(id.rawValue)] : nil
    }
    guard let found else { throw .unknownContainer(id) }
    return found
  }

  /// In the order of their numbers.
  var liveContainers: [TrackedContainer] {
    directory.withLock { $0.containers.compactMap { $0 } }
  }
}
