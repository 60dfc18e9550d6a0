import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking
import Snapshot

/// A copy of the table that is being made in pieces while others map and unmap.
///
/// What changes behind its place is copied again, until nothing is left that was not: then the copy
/// and the table are the same, under one hold of the lock.
struct TableCopy: Sendable {
  /// Mappings of one piece, where a step is not bounded otherwise.
  static let mappingCountMax = 8192
  /// Pieces after which a table that changes too quickly is given up: as many as a table of the
  /// largest size has, and as many again.
  static let pieceCountMax = 2 * Limits.mappingCountMax / mappingCountMax

  /// Where the next piece begins; nil when the table was walked to its end.
  var from: IOVA? = IOVA(0)
  /// Changed since they were copied.
  var stale = OwedMarks()
  var pieceCount = 0

  /// Somebody has mapped or unmapped there.
  mutating func note(_ range: IOVARange) {
    guard let from else { return stale.add(range) }
    if range.first < from { stale.add(range) }
  }
}

extension ContainerState {
  enum CopyStep: ~Copyable {
    case piece(SnapshotContainer.Piece)
    /// All else there is to know of the container, with the last pieces.
    case last(SnapshotContainer)
    /// It was removed, or its table changes too quickly.
    case none
  }

  mutating func beginCopy() { copy = TableCopy() }

  mutating func endCopy() { copy = nil }

  /// One piece of the table. The caller has the container's courses: none is under way.
  mutating func copyNext() -> CopyStep {
    guard !isRemoved, var copy, copy.pieceCount < TableCopy.pieceCountMax else { return .none }
    copy.pieceCount += 1
    var piece: SnapshotContainer.Piece?
    if let from = copy.from {
      let (read, next) = copied(from: from, through: IOVARange.wholeSpace.last)
      piece = read
      copy.from = next
    } else if let range = copy.stale.ranges.first {
      let (read, next) = copied(from: range.first, through: range.last)
      piece = read
      copy.stale.paid(before: next)
    }
    self.copy = copy
    if let piece { return .piece(piece) }
    return .last(described())
  }

  /// What is mapped in a range, as far as one piece goes.
  private func copied(
    from: IOVA, through last: IOVA
  ) -> (SnapshotContainer.Piece, next: IOVA?) {
    let countMax = max(1, settings.pace.fixedBounds?.mappingCountMax ?? TableCopy.mappingCountMax)
    var mappings: [Mapping] = []
    let read = context.book.withLock { (book: inout ContainerBook) in
      book.table.copyMappings(
        from: from, through: last, into: &mappings, countMax: countMax)
    }
    var end = last
    var next: IOVA?
    if read == countMax, let through = mappings.last?.iova.last, through < last {
      (end, next) = (through, through.advanced(byBytes: 1))
    }
    let range = AddressRange(
      first: min(from, mappings.first?.iova.first ?? from),
      last: max(end, mappings.last?.iova.last ?? end))
    return (SnapshotContainer.Piece(range: range, mappings: mappings), next)
  }

  /// All but the table.
  private mutating func described() -> SnapshotContainer {
    var found = SnapshotContainer(number: id.rawValue, container: traced())
    found.place = settings.record?.next.sequence ?? 0
    found.isTracking = isTracking
    found.hasPartialUnmap = hasPartialUnmap
    found.unknownMappings = unknownMappings
    found.generation = context.book.withLock { (book: inout ContainerBook) in
      book.table.generation
    }
    found.staleRAM = staleRAM.map { .init(gpa: $0.gpa, generation: $0.generation) }
    found.owed = owed.ranges
    found.logs = logs.map { log in
      var traced = TraceLog(log.log)
      traced.identity = identity(of: log.log)
      return SnapshotTrackedLog(traced, log)
    }
    return found
  }

  /// Becomes the state that was copied. The container is new, and its backend has these logs.
  mutating func restore(_ copy: SnapshotContainer, _ backends: [UInt64: any DirtyLog]) -> String? {
    isTracking = copy.isTracking
    hasPartialUnmap = copy.hasPartialUnmap
    unknownMappings = copy.unknownMappings
    staleRAM = copy.staleRAM.map { StaleRAM(gpa: $0.gpa, generation: $0.generation) }
    for range in copy.owed { owed.add(range) }
    for log in copy.logs {
      guard let backend = backends[log.log.identity] else {
        return "dirty log \(log.log.name) is not there"
      }
      logs.append(TrackedLog(log, backend))
    }
    let failure = context.book.withLock { (book: inout ContainerBook) -> String? in
      do throws(MappingError) {
        for piece in copy.table {
          try book.table.unmap(piece.range)
          for mapping in piece.mappings { try book.table.restore(mapping) }
        }
        book.table.restore(generation: copy.generation)
        return nil
      } catch {
        return "\(error)"
      }
    }
    publish()
    return failure
  }
}

extension SnapshotTrackedLog {
  fileprivate init(_ description: TraceLog, _ log: TrackedLog) {
    let mode: Mode =
      switch log.mode {
      case .stopped: .stopped
      case .waiting: .waiting
      case .logging: .logging
      case .everythingMapped: .everythingMapped
      }
    self.init(log: description, pageSize: log.pageSize, mode: mode)
    mayBeRunning = log.mayBeRunning
    needsRestart = log.needsRestart
    ranges = log.ranges
    failed = log.failed
    refused = log.refused
    restartWait = UInt64(log.restartWait)
    restartInterval = UInt64(log.restartInterval)
  }
}

extension TrackedLog {
  fileprivate init(_ copy: SnapshotTrackedLog, _ log: any DirtyLog) {
    self.init(log, preferred: copy.pageSize)
    mode =
      switch copy.mode {
      case .stopped: .stopped
      case .waiting: .waiting
      case .logging: .logging
      case .everythingMapped: .everythingMapped
      }
    mayBeRunning = copy.mayBeRunning
    needsRestart = copy.needsRestart
    ranges = copy.ranges
    failed = copy.failed
    refused = copy.refused
    restartWait = Int(clamping: copy.restartWait)
    restartInterval = Int(clamping: copy.restartInterval)
  }
}
