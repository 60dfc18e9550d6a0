import Addressing
import DMAContainer

/// One dirty log of a container, as the tracker drives it. States: see ``TrackedContainer``.
struct TrackedLog: Sendable {
  enum Mode: Hashable, Sendable {
    case stopped
    /// To be started by the course under way.
    case waiting
    case logging
    /// Whatever is mapped writable counts as written: the log has nothing better, or failed.
    case everythingMapped
  }

  /// Syncs between two restarts of one log, at most.
  static let restartIntervalMax = 64
  /// Ranges a log may refuse before all of it is given up.
  static let refusedCountMax = 64

  let log: any DirtyLog
  let capabilities: DirtyLogCapabilities
  /// The page size it is started with and asked in.
  let pageSize: PageSize
  var mode = Mode.stopped
  /// A stop failed, or a start that may have started it all the same: it is stopped again before
  /// the next start, and when tracking stops.
  var mayBeRunning = false
  /// A device log: what it was started with, fixed until it is stopped.
  var ranges: [IOVARange] = []
  /// Of those, ranges a query failed for once. A second time makes them refused.
  var failed: [IOVARange] = []
  /// Ranges the log does not answer for. They count as written; the others stay exact.
  var refused: [IOVARange] = []
  /// A query failed: the log is restarted once its turn comes.
  var needsRestart = false
  /// Syncs to let pass until the next restart, and how many the one after that will cost.
  var restartWait = 0
  var restartInterval = 1

  /// - Parameter old: what the container tracked before; a log that stays is one that may be
  ///   running still.
  init(_ log: any DirtyLog, preferred: PageSize, succeeding old: [TrackedLog] = []) {
    self.log = log
    capabilities = log.capabilities
    let sizes = capabilities.pageSizes
    pageSize = sizes.contains(preferred) ? preferred : sizes.smallest ?? preferred
    mayBeRunning = old.contains { $0.log === log && $0.mayBeRunning }
    mode = .waiting
  }

  var hasFixedRanges: Bool { capabilities.rangeCountMax != nil }

  /// Whether a call of start or of query was ever of use.
  var canLog: Bool { capabilities.scope != .everythingMapped }

  /// As reports print it.
  var scope: String {
    guard mode == .everythingMapped, canLog else { return "\(capabilities.scope)" }
    return "\(capabilities.scope), degraded to \(DirtyScope.everythingMapped)"
  }

  mutating func degrade() {
    mode = .everythingMapped
    ranges = []
  }

  /// A query of `window` failed. Only the first failure since a start says something of its range:
  /// a log may answer no query after one that failed.
  /// - Returns: the logged range that is refused from now on; nil when there is none.
  mutating func noteFailure(_ window: IOVARange) -> IOVARange? {
    guard hasFixedRanges, !needsRestart else { return nil }
    needsRestart = true
    guard let range = ranges.first(where: { $0.overlaps(window) }) else { return nil }
    guard failed.contains(where: { $0.overlaps(range) }) else {
      failed.append(range)
      return nil
    }
    guard refused.count < Self.refusedCountMax else { return nil }
    failed.removeAll { $0.overlaps(range) }
    ranges.removeAll { $0 == range }
    refused.append(range)
    return range
  }
}
