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
/// tracking runs, so that these do not overtake each other; not over starts, syncs and stops, which
/// are courses of the containers. `directory` finds a container and is held for one look. Each
/// container has its own, see ``TrackedContainer``. Order: container's courses, control, its
/// operation, its book, log, record. Maps, unmaps and syncs of different containers never
/// wait for each other, with an event record or without: what is recorded is ordered within a
/// container and where effects meet, in the log.
///
/// A sync never makes a guest wait for more than one step: the tracker asks a backend for one
/// window, credits the answer, and lets go of the container before the next. With a clock it finds
/// the window size whose query takes about a millisecond, and stands back for those who wait.
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
  ///   - record: what happens to the tracker and to the log is appended to it, in an order in which
  ///     a replay gives the same state. The log is empty, and has no other record.
  ///   - omitting: steps left out to prove that a verdict notices.
  ///   - clock: nanoseconds that never go back. With it windows are as large as a backend answers
  ///     in about a millisecond while the guest runs; without, as large as the backend takes.
  ///   - rest: lets another thread have the processor, `sched_yield` for one: called between two
  ///     steps of a sync while somebody waits for the container.
  public convenience init(
    log: GuestDirtyLog, policy: TrackerPolicy = .init(), cpu: (any CPUDirtySource)? = nil,
    record: EventRecord? = nil, omitting: Set<TrackerOmission> = [],
    clock: (@Sendable () -> UInt64)? = nil, rest: (@Sendable () -> Void)? = nil
  ) {
    self.init(
      log: log, policy: policy, cpu: cpu, record: record, omitting: omitting,
      pace: StepPace(clock: clock, rest: rest))
  }

  package init(
    log: GuestDirtyLog, policy: TrackerPolicy, cpu: (any CPUDirtySource)?, record: EventRecord?,
    omitting: Set<TrackerOmission>, pace: StepPace
  ) {
    self.log = log
    self.policy = policy
    self.settings = TrackerSettings(
      log: log, memory: RAMLayout(), policy: policy, omitting: omitting, record: record,
      pace: pace)
    self.cpu = Mutex(CPUState(source: cpu))
    guard let record else { return }
    record.append(.trackerMade(Self.configuration(policy, omitting)))
    log.attach(record)
  }

  /// What happens to the tracker is appended to it; nil without one.
  package var eventRecord: EventRecord? { settings.record }

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
