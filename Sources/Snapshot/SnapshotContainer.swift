public import Addressing

/// One container of a tracker.
public struct SnapshotContainer: Hashable, Sendable {
  /// RAM that went while mappings to it may have stayed.
  public struct StaleRAM: Hashable, Sendable {
    public var gpa: GPARange
    public var generation: Generation

    public init(gpa: GPARange, generation: Generation) {
      self.gpa = gpa
      self.generation = generation
    }
  }

  /// What is mapped in a range. A later piece replaces what earlier ones say of its range.
  public struct Piece: Hashable, Sendable {
    public var range: IOVARange
    public var mappings: [Mapping]

    public init(range: IOVARange, mappings: [Mapping]) {
      self.range = range
      self.mappings = mappings
    }
  }

  public var number: UInt16
  /// Events of the container from here on are not part of this.
  public var place: UInt64 = 0
  public var container: TraceContainer
  public var isTracking = false
  public var hasPartialUnmap = false
  /// Why its table does not hold all that is mapped; nil while it does.
  public var unknownMappings: String?
  public var generation = Generation(0)
  public var staleRAM: [StaleRAM] = []
  public var owed: [IOVARange] = []
  public var logs: [SnapshotTrackedLog] = []
  public var table: [Piece] = []

  public init(number: UInt16, container: TraceContainer) {
    self.number = number
    self.container = container
  }
}

/// A dirty log of a container, as the tracker drives it.
public struct SnapshotTrackedLog: Hashable, Sendable {
  public enum Mode: UInt8, Hashable, Sendable, CaseIterable {
    case stopped = 1
    case waiting = 2
    case logging = 3
    case everythingMapped = 4
  }

  public var log: TraceLog
  public var pageSize: PageSize
  public var mode: Mode
  public var mayBeRunning = false
  public var needsRestart = false
  public var ranges: [IOVARange] = []
  public var failed: [IOVARange] = []
  public var refused: [IOVARange] = []
  public var restartWait: UInt64 = 0
  public var restartInterval: UInt64 = 1

  public init(log: TraceLog, pageSize: PageSize, mode: Mode) {
    self.log = log
    self.pageSize = pageSize
    self.mode = mode
  }
}
