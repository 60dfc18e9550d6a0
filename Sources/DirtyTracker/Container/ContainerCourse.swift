package import Addressing
import EventTrace
import GuestDirtyLog

/// A long piece of work on one container, done in steps: a part of the container's state, so that
/// the lock is free between two steps and whoever stops the container ends the work by taking it
/// away.
///
/// States:
///
///     start:  log 0 -> log 1 -> ... -> pay what is owed -> done
///     sync:   log 0 -> log 1 -> ... -> everything mapped, where a log has nothing better
///                |                     -> pay what is owed -> settle held-back pages -> done
///                '-> restart: stop, start, pay, release held-back pages; then the next log
///     stop:   log 0 -> log 1 -> ... -> mark everything mapped for readers that stay -> done
enum ContainerCourse: Sendable {
  case start(StartCourse)
  case sync(SyncCourse)
  case stop(StopCourse)
}

/// Starts the logs that wait for it.
struct StartCourse: Sendable {
  /// A tracker that starts has promised nothing yet. An attachment has: what is owed is paid.
  var paysOwed: Bool
}

/// Brings the dirt of the container into the log.
struct SyncCourse: Sendable {
  /// Where the sync is. An IOVA is a place in whatever the table holds when its step comes.
  enum Phase: Sendable {
    /// Nil: the log was asked to the end of the range.
    case ask(log: Int, from: IOVA?)
    /// What the log cannot be asked for is held back, then the log is asked from `next` on.
    case holdBack(IOVARange, log: Int, next: IOVA?)
    case restart(LogRestart)
    case unwatched(from: IOVA)
    case payOwed
    case settle
    case release(HeldBackWalk)
  }

  let request: SyncRequest
  var phase: Phase
  /// Writable pages found outside the ranges of the log being asked.
  var unloggedPages: UInt64 = 0

  init(_ request: SyncRequest) {
    self.request = request
    phase = .ask(log: 0, from: request.range.first)
  }
}

/// What one sync is to do.
package struct SyncRequest: Hashable, Sendable {
  /// Only what is mapped there; held-back pages are settled when it is everything.
  package var range: IOVARange
  package var isFinal: Bool
  /// False for the one container whose exact logs are left out on purpose.
  package var asks: Bool

  package init(range: IOVARange = .wholeSpace, isFinal: Bool = false, asks: Bool = true) {
    self.range = range
    self.isFinal = isFinal
    self.asks = asks
  }
}

/// A log of fixed ranges is stopped and started with what is mapped writable now. Nobody watches in
/// between, so all of IOVA is owed before the stop.
struct LogRestart: Sendable {
  enum Stage: Sendable {
    case stop
    case start
    case pay
    case release(HeldBackWalk)
  }

  let log: Int
  /// Why, a clause for the note.
  let reason: String
  var stage = Stage.stop
}

/// Collects what a log of fixed ranges is started with, in pieces.
struct RangeCollection: Sendable {
  let log: Int
  /// Where the next piece begins; nil when the table was walked to its end.
  var from: IOVA? = IOVA(0)
  var runs: [IOVARange] = []
}

/// Stops every log.
struct StopCourse: Sendable {
  /// The log to be stopped next.
  var log = 0
  let purpose: TraceStop
  /// What was held back goes to the readers; nil until all else is done.
  var release: HeldBackWalk?
}

/// How much one step may do.
package struct StepBounds: Hashable, Sendable {
  /// Bytes of bitmap of a query's window.
  package var windowByteCountMax: UInt64
  /// Mappings read by one piece of a walk, or for one window.
  package var mappingCountMax: Int
  /// Pages marked by one piece of a walk, about: a piece ends once it has marked as many.
  package var pageCountMax: UInt64

  package init(windowByteCountMax: UInt64, mappingCountMax: Int, pageCountMax: UInt64) {
    self.windowByteCountMax = windowByteCountMax
    self.mappingCountMax = mappingCountMax
    self.pageCountMax = pageCountMax
  }

  /// While the guest runs: a window as the pace says, walks of some hundred microseconds.
  package static func running(windowByteCountMax: UInt64) -> StepBounds {
    StepBounds(
      windowByteCountMax: windowByteCountMax, mappingCountMax: 64 << 10,
      pageCountMax: 4 << 20)
  }

  /// Nobody maps any more: as much as the backend takes.
  package static let final = StepBounds(
    windowByteCountMax: .max, mappingCountMax: .max, pageCountMax: 64 << 20)
}

/// What a step did.
struct StepResult: Sendable {
  var isDone = false
  /// There was no course any more: a stop or a removal took it away.
  var wasTaken = false
  /// Bytes of bitmap asked for; 0 when no log was asked.
  var askedByteCount: UInt64 = 0
}
