import Addressing
import DMAContainer

/// One dirty log of a container, as the tracker drives it. States: see ``TrackedContainer``.
struct TrackedLog: Sendable {
  enum Mode: Hashable, Sendable {
    case stopped
    case logging
    /// Whatever is mapped writable counts as written: the log has nothing better, or failed.
    case everythingMapped
  }

  let log: any DirtyLog
  let capabilities: DirtyLogCapabilities
  /// The page size it is started with and asked in.
  let pageSize: PageSize
  var mode = Mode.stopped
  /// A device log: what it was started with, fixed until it is stopped.
  var ranges: [IOVARange] = []
  /// A query failed: what it knows is in doubt until it is started anew.
  var needsRestart = false
  /// Syncs to let pass until the next re-arm, and how many the one after that will cost.
  var rearmWait = 0
  var rearmInterval = 1

  init(_ log: any DirtyLog, preferred: PageSize) {
    self.log = log
    capabilities = log.capabilities
    let sizes = capabilities.pageSizes
    pageSize = sizes.contains(preferred) ? preferred : sizes.smallest ?? preferred
  }

  /// Stops a log of which nothing more is expected, whatever it answers.
  mutating func stopQuietly() {
    _ = try? log.stop()
    if mode == .logging { mode = .stopped }
  }

  var hasFixedRanges: Bool { capabilities.rangeCountMax != nil }

  /// As reports print it.
  var scope: String {
    guard mode == .everythingMapped, capabilities.scope != .everythingMapped else {
      return "\(capabilities.scope)"
    }
    return "\(capabilities.scope), degraded to \(DirtyScope.everythingMapped)"
  }
}
