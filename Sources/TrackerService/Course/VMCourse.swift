import Addressing
import DirtyTracker
import GuestDirtyLog
import Locking
import VFIOUser
import VhostUser

/// One VM as smudged sees it: what its devices write, from the moment the VMM logs to the last word
/// before it has stopped.
///
/// Terms:
/// - **VMM**: QEMU, the client of the devices and the front-end of the companion.
/// - **Session**: one connection of the VMM to one device, as long as it lasts.
/// - **Place**: where a byte of guest memory lies for the tracker, see ``GuestFiles``. What is
///   dirty there is marked in the VMM's log where the companion's RAM table shows it to the guest.
/// - **Quiet**: a device writes nothing; see ``RelaySession``.
///
/// Invariants:
/// 1. A stop is answered only after every device is quiet, its dirt collected, and marked in the
///    VMM's log; otherwise it is refused.
/// 2. Dirt that could not be marked stays in the tracker's log, and is marked when there is a log
///    again.
/// 3. What lies in no RAM that the companion knows makes all of RAM dirty, and is named.
/// 4. Nothing that a guest waits for waits for a sync: its maps and unmaps go between two steps of
///    one, and an access ends a stop only where one was answered.
/// 5. A device that the VMM never connected to since this process was started counts, in a stop, as
///    one that wrote all of RAM: the process before this one may have had it.
///
/// States:
///
///     idle ── trackingStarts ──> tracking ── stop ──> tracking, quiet
///      ^                           │  ^                   │
///      └────── trackingEnds ───────┘  └──── runsAgain, a vCPU's access
///
/// and the same without tracking: a stop makes devices quiet whether or not the VMM logs.
///
/// Locks: `course` is held over a whole sync, start, stop and resume, which do not overlap; who
/// maps or unmaps never takes it. `isTracking` and `isQuiet` change while it is held. Order:
/// course, a session's order and state, the tracker's.
final class VMCourse: Sendable {
  struct State: Sendable {
    /// Nil: there was no memory for it, and all of RAM is dirty in every sync.
    var consumer: ConsumerID?
    var syncCount = 0
    var markedPageCount: UInt64 = 0
    var isUnplacedSaid = false
  }

  let log: GuestDirtyLog
  let tracker: DirtyTracker
  let isStrict: Bool
  let say: ServiceSay
  let omissions: Set<ServiceOmission>
  let course = Mutex(State())
  let sessions = Mutex<[RelaySession]>([])
  /// Devices whose VMM has not connected since this process was started.
  let strangers: Mutex<Set<String>>
  /// Set once, before any message of its own is answered.
  private let companionHolder = Mutex<Companion?>(nil)
  let late = Mutex<[LateWrite]>([])
  /// The VMM logs. Read by every write by message.
  let isTracking = Mutex(false)
  /// A stop was answered. Read by every access of the guest.
  let isQuiet = Mutex(false)
  private let filesHolder = Mutex<GuestFiles?>(nil)

  init(
    deviceNames: [String], isStrict: Bool, omissions: Set<ServiceOmission>,
    say: @escaping ServiceSay
  ) {
    self.isStrict = isStrict
    self.omissions = omissions
    self.say = say
    strangers = Mutex(Set(deviceNames))
    log = GuestDirtyLog()
    var omitted: Set<TrackerOmission> = []
    if omissions.contains(.unmap) { omitted.insert(.unmap) }
    tracker = DirtyTracker(
      log: log, omitting: omitted, clock: { ServiceClock.nanoseconds },
      rest: { ServiceClock.yield() })
  }

  /// - Precondition: called once.
  func listen(at path: String) throws(ServiceError) {
    // Held meanwhile: who connects at once finds the companion.
    try companionHolder.withLock { (holder: inout sending Companion?) throws(ServiceError) in
      do throws(VhostUserError) {
        holder = try Companion(path: path, delegate: self)
      } catch {
        throw .companion(error)
      }
    }
  }

  var companion: Companion {
    guard let companion = companionHolder.withLock({ $0 }) else {
      preconditionFailure("the companion listens before anything else")
    }
    return companion
  }

  /// Guest memory, for sessions.
  var files: GuestFiles {
    filesHolder.withLock { holder in
      if let files = holder { return files }
      let files = GuestFiles(
        shift: { [weak self] in self?.companion.ram.blockOffset(in: $0) },
        wrote: { [weak self] in self?.markNow($0) })
      holder = files
      return files
    }
  }

  /// The companion's own thread calls no more once this returns.
  func end() { companion.end() }

  func add(_ session: RelaySession) {
    _ = strangers.withLock { $0.remove(session.name) }
    sessions.withLock { $0.append(session) }
  }

  func remove(_ session: RelaySession) {
    sessions.withLock { sessions in sessions.removeAll { $0 === session } }
  }

  // MARK: what the guest does

  /// A vCPU waits for an access to a device: the VM runs.
  func sawAccess() {
    guard isQuiet.withLock({ $0 }), companion.noteAccess() else { return }
    say(.info, "a vCPU runs: the stop is over")
    runsAgain()
  }

  /// What was written by message is marked before the device has its answer.
  private func markNow(_ place: GPARange) {
    if isTracking.withLock({ $0 }) { markWherePossible(place) }
  }

  func markWherePossible(_ place: GPARange) {
    for range in ranges(of: place).ranges {
      // Without a log, or past its end: the tracker has the page too, and a sync says why it is not
      // marked.
      try? companion.log.mark(range)
    }
  }

  func ranges(of place: GPARange) -> RAMPlaces {
    guard let file = files.file(at: place.first) else {
      return RAMPlaces(ranges: [], isWhole: false)
    }
    return companion.ram.places(
      of: file.identity, first: file.offset(of: place.first), last: file.offset(of: place.last))
  }

  /// Whether DMA by message is carried out here and marked. Otherwise the VMM does it, which logs
  /// it itself: it logs for the companion only while the guest has started that.
  var marks: Bool {
    switch companion.status.phase {
    case .started, .stopping: true
    case .notConnected, .connected, .stopped: false
    }
  }
}
