/// The companion: a vhost-user-blk device of capacity 0 that never does I/O. QEMU tells such a
/// device its RAM table, gives it a dirty log while it migrates, and waits for it when the VM
/// stops. That is all a tracker outside of QEMU needs.
///
/// This is its life without I/O: events in, effects out.
///
/// Terms:
/// - **started**: the guest's driver has given a ring its kick descriptor or enabled it, and the
///   front-end has not stopped it since. QEMU logs only for started devices.
/// - **quiet**: a stop was answered; the owner's devices write nothing.
/// - **tracking**: the front-end logs (VHOST_F_LOG_ALL) and its log could be used; the delegate was
///   told so.
///
/// Invariants:
/// 1. GET_VRING_BASE, with or without a log, is answered only after the delegate's `stop` returned.
/// 2. When the front-end wants a log and none can be used, no stop is answered: the connection is
///    closed, and QEMU (11.1) fails the migration; 7.2, which has no vfio-user, only complains. The
///    log itself is never refused when it comes: QEMU before 9.1 ends itself then.
/// 3. SET_FEATURES and SET_LOG_BASE are answered only after tracking has started, or has gone over
///    to the new log.
/// 4. There is no log between the answer to the last ring's stop and the next SET_LOG_BASE: QEMU
///    reads the old one for the last time after that answer.
/// 5. Devices are quiet from an answered stop until VRING_ENABLE 1 or a vCPU's access, across
///    connections; a VM that was paused before a migration stays so.
///
/// The device, as its rings say; `disconnected` leads back from everywhere:
///
///     notConnected ──connected──> connected ──kick, enable 1──> started
///                                     │                          │  ^
///                                     └──ring base─┐ ┌─ring base─┘  │
///                                                  v v              │
///                              refused: close <── stopping          │ kick, enable 1
///                                                   │ allowed       │
///                                                   v               │
///                                                stopped ───────────┘
///
/// The owner's devices:
///
///     running ──stop allowed──> quiet ──enable 1 (runsAgain), a vCPU's access──> running
///
/// The log:
///
///     none ──SET_LOG_BASE──> open ──LOG_ALL──> open, tracking ──SET_LOG_BASE──> (logReplaced)
///      ^                      │                    │      │
///      └──last ring stopped───┴────────────────────┘      │  tracking stays on, for the next log
///      └──LOG_ALL taken back──────────────────────────────┘  tracking ends
///
///     any ──SET_LOG_BASE, not usable──> unusable: while LOG_ALL is set, a stop is refused
struct CompanionCore: Hashable, Sendable {
  enum Log: Hashable, Sendable {
    case none
    case open
    case unusable(VhostUserError)
  }

  struct Ring: Hashable, Sendable {
    var base: UInt32 = 0
    var isStarted = false
  }

  /// What a message waits for before it is answered.
  enum Pending: Hashable, Sendable {
    case ram(FrontEndRequest, needsReply: Bool)
    case log(needsReply: Bool)
    case ringStop(ring: UInt32)
    case reset(FrontEndRequest, needsReply: Bool)
  }

  /// What exists only while a front-end is connected.
  struct Connection: Hashable, Sendable {
    var features: VirtioFeatures = []
    var protocolFeatures: ProtocolFeatures = []
    var rings: [UInt32: Ring] = [:]
    var log = Log.none
    var isTracking = false
    /// LOG_ALL came while the device was not started, or before its log.
    var isLate = false
    var wasStopped = false
    var pending: Pending?

    var wantsLog: Bool { features.contains(.logAll) }
    var isStarted: Bool { rings.values.contains { $0.isStarted } }
    var isStopping: Bool {
      switch pending {
      case .ringStop, .reset: true
      default: false
      }
    }
  }

  var connection: Connection?
  private(set) var isQuiet = false
  private(set) var lastDisconnection: VhostUserError?

  var status: CompanionStatus {
    var status = CompanionStatus(
      phase: .notConnected, wantsLog: false, isTracking: false, logFailure: nil,
      isQuiet: isQuiet, lastDisconnection: lastDisconnection, refusedFrontEndCount: 0)
    guard let connection else { return status }
    status.wantsLog = connection.wantsLog
    status.isTracking = connection.isTracking
    if case .unusable(let reason) = connection.log { status.logFailure = reason }
    if connection.isStopping {
      status.phase = .stopping
    } else if connection.isStarted {
      status.phase = .started
    } else {
      status.phase = connection.wasStopped ? .stopped : .connected
    }
    return status
  }

  /// - Precondition: the event fits: a message only to a connection that waits for nothing, an
  ///   answer only to what was asked.
  mutating func handle(_ event: CompanionEvent) -> [CompanionEffect] {
    switch event {
    case .connected:
      precondition(connection == nil, "one front-end at a time")
      connection = Connection()
      return [.tell(.connected)]
    case .disconnected(let reason): return disconnect(reason)
    case .received(let message, let needsReply):
      precondition(connection?.pending == nil, "a message while another one is at work")
      return receive(message, needsReply)
    case .ramChanged(let error): return finishRAM(error)
    case .logOpened(let error): return finishLog(error)
    case .stopAnswered(let error): return finishStop(error)
    }
  }

  /// The owner has seen a vCPU run.
  /// - Returns: whether that ended a stop.
  mutating func noteAccess() -> Bool {
    // While a stop is being answered the access may have been sent before it.
    guard isQuiet, connection?.isStopping != true else { return false }
    isQuiet = false
    return true
  }

  private mutating func disconnect(_ reason: VhostUserError) -> [CompanionEffect] {
    guard let old = connection else { return [] }
    connection = nil
    lastDisconnection = reason
    var effects: [CompanionEffect] = []
    if old.isTracking { effects.append(.tell(.trackingEnds)) }
    return effects + [.closeLog, .clearRAM, .tell(.disconnected(reason))]
  }

  /// The device runs if it was quiet.
  mutating func endQuiet() -> [CompanionEffect] {
    guard isQuiet else { return [] }
    isQuiet = false
    return [.tell(.runsAgain)]
  }

  private mutating func finishStop(_ error: VhostUserError?) -> [CompanionEffect] {
    guard var connection = connection, connection.isStopping, let pending = connection.pending
    else { preconditionFailure("nobody asked for a stop") }
    connection.pending = nil
    defer { self.connection = connection }
    if let error {
      isQuiet = false
      return [.close(error)]
    }
    isQuiet = true
    connection.wasStopped = true
    let answer: [CompanionEffect]
    switch pending {
    case .ringStop(let ring):
      connection.rings[ring, default: Ring()].isStarted = false
      let base = connection.rings[ring]?.base ?? 0
      answer = [.reply(.ring(.getRingBase, RingNumber(ring: ring, value: base)))]
    case .reset(let request, let needsReply):
      connection.rings = [:]
      answer = connection.acknowledgement(request, needsReply)
    default: preconditionFailure("no stop")
    }
    if connection.isStarted { return answer }
    return connection.closeLog() + answer
  }
}
