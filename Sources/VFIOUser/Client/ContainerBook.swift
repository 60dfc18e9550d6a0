import Addressing
import DMAContainer
import IOVAMapping
import Locking
import PageBitmap

/// What a container over vfio-user knows: its mappings, and what this side wrote for the server.
/// Shared by the container and its log. Its lock is never held over a call to the server.
final class ContainerBook: Sendable {
  /// How the container knows what its device writes.
  enum Way: Sendable {
    /// The server logs what it writes through descriptors.
    case serverLog
    /// No mapping has a descriptor: every write passes through this side.
    case messages
    /// The server writes by itself and keeps no log.
    case nothing
  }

  private struct State: ~Copyable, Sendable {
    var table: MappingTable
    /// First IOVA of mappings without a descriptor.
    var messageOnly: Set<UInt64> = []
    var dirty = SparseDirtyPages()
    /// Nil while the log is off.
    var pageSize: PageSize?
  }

  let way: Way
  /// The largest piece of one DMA_MAP: its bitmap fits one answer.
  let pieceByteCountMax: UInt64
  private let state: Mutex<State>

  init(way: Way, pieceByteCountMax: UInt64) {
    self.way = way
    self.pieceByteCountMax = pieceByteCountMax
    state = Mutex(State(table: MappingTable(policy: .refuse, retiredCountMax: 0)))
  }

  /// A mapping as one call after the other is about it.
  struct Entry: Sendable {
    let mapping: Mapping
    let hasDescriptor: Bool
  }

  /// The pieces a mapping is mapped in, in order.
  func pieces(of range: IOVARange) -> [IOVARange] {
    var pieces: [IOVARange] = []
    var first = range.first
    while true {
      guard let last = first.advanced(byBytes: pieceByteCountMax - 1), last < range.last else {
        pieces.append(AddressRange(first: first, last: range.last))
        return pieces
      }
      pieces.append(AddressRange(first: first, last: last))
      first = IOVA(last.rawValue + 1)
    }
  }

  func enter(_ request: MapRequest, hasDescriptor: Bool) throws(MappingError) {
    try state.withLock { (state: inout sending State) throws(MappingError) -> Void in
      try state.table.map(
        request.iova, to: request.gpaFirst, permissions: request.permissions)
      if !hasDescriptor, way == .serverLog {
        state.messageOnly.insert(request.iova.first.rawValue)
      }
    }
  }

  /// A mapping is gone, and what was not asked of it with it.
  func remove(_ range: IOVARange) {
    state.withLock { state in
      // Of whole mappings, which no table refuses.
      _ = try? state.table.unmap(range)
      state.messageOnly.remove(range.first.rawValue)
      state.dirty.remove(range)
    }
  }

  /// The mappings in a range.
  /// - Throws: where it cuts one.
  func entries(in range: IOVARange) throws(MappingError) -> [Entry] {
    try state.withLock { (state: inout sending State) throws(MappingError) -> [Entry] in
      try state.table.canUnmap(range)
      return Self.entries(in: range, state, way)
    }
  }

  /// Also those that it cuts, whole.
  func entries(touching range: IOVARange) -> [Entry] {
    state.withLock { state in Self.entries(in: range, state, way) }
  }

  private static func entries(
    in range: IOVARange, _ state: borrowing State, _ way: Way
  ) -> [Entry] {
    var mappings: [Mapping] = []
    state.table.forEach(in: range) { mappings.append($0) }
    return mappings.map {
      Entry(
        mapping: $0,
        hasDescriptor: way != .messages && !state.messageOnly.contains($0.iova.first.rawValue))
    }
  }

  // MARK: log

  /// Nil while it is off.
  var trackedPageSize: PageSize? { state.withLock { $0.pageSize } }

  /// Begins or ends the log, from clean.
  func track(_ pageSize: PageSize?) {
    state.withLock { state in
      state.pageSize = pageSize
      state.dirty.removeAll()
    }
  }

  /// What this side wrote, or was told too much of before.
  func takeDirty(_ range: IOVARange, into bitmap: inout QueryBitmap) {
    state.withLock { state in state.dirty.take(range, into: &bitmap) }
  }

  /// Counts only while the log runs.
  func record(_ range: IOVARange) {
    state.withLock { state in
      if state.pageSize != nil { state.dirty.insert(range) }
    }
  }

  // MARK: translation

  /// Where a range lies in guest memory, in pieces that are contiguous there.
  /// - Returns: nil where a byte of it is not mapped for that.
  func translate(
    _ range: IOVARange, for permission: Permissions
  ) -> [(gpa: GPA, byteCount: Int)]? {
    state.withLock { state in
      var pieces: [(gpa: GPA, byteCount: Int)] = []
      var next: IOVA? = range.first
      while let at = next, at <= range.last {
        guard let mapping = state.table.lookup(at), mapping.permissions.contains(permission),
          let gpa = mapping.translate(at)
        else { return nil }
        let last = min(mapping.iova.last, range.last)
        let count = Int(last.rawValue - at.rawValue + 1)
        if let before = pieces.last, before.gpa.advanced(byBytes: UInt64(before.byteCount)) == gpa {
          pieces[pieces.count - 1].byteCount += count
        } else {
          pieces.append((gpa, count))
        }
        next = last.advanced(byBytes: 1)
      }
      return pieces
    }
  }
}
