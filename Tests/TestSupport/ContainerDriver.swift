public import Addressing
public import DMAContainer
import IOVAMapping
public import PageBitmap

/// The plainest correct user of a container: a table beside it, every log started, and the order of
/// calls that loses nothing. For suites that test containers, not for use.
public final class ContainerDriver {
  public let container: any DMAContainer
  private var table: MappingTable
  private var logged: [ObjectIdentifier: [IOVARange]] = [:]
  public private(set) var queryCount = 0
  /// Told by a query after an unmap that reached further than the unmap: for the next answer.
  private var carried: [UInt64: UInt64] = [:]

  public init(_ container: any DMAContainer) {
    self.container = container
    self.table = MappingTable(policy: .refuse, retiredCountMax: 0)
  }

  /// True when every log says exactly which pages were written.
  public var isExact: Bool {
    container.dirtyLogs.allSatisfy {
      $0.capabilities.scope == .deviceLog || $0.capabilities.scope == .iommuHardware
    }
  }

  public var mappings: [Mapping] {
    var found: [Mapping] = []
    table.forEach(in: .wholeSpace) { found.append($0) }
    return found
  }

  /// Starts every log; device logs with `ranges`.
  public func start(logging ranges: [IOVARange]) throws(ContainerError) {
    for log in container.dirtyLogs {
      var fixed: [IOVARange] = []
      if let countMax = log.capabilities.rangeCountMax {
        fixed =
          DeviceLogRanges(
            ranges, pageSize: .fourKiB, granule: log.capabilities.granule, rangeCountMax: countMax
          ).ranges
      }
      logged[ObjectIdentifier(log)] = fixed
      try log.start(logging: fixed, pageSize: .fourKiB)
    }
  }

  public func stop() throws(ContainerError) {
    for log in container.dirtyLogs { try log.stop() }
  }

  public func map(
    _ iova: IOVARange, to gpa: GPA, permissions: Permissions = .readWrite
  ) throws(ContainerError) {
    try container.map(
      MapRequest(iova: iova, gpaFirst: gpa, hvaFirst: nil, permissions: permissions))
    do {
      try table.map(iova, to: gpa, permissions: permissions)
    } catch {
      preconditionFailure("the container mapped what the table refuses: \(error)")
    }
  }

  /// Dirty pages of everything mapped writable: GPA page numbers by IOVA page number.
  public func sync() throws(ContainerError) -> [UInt64: UInt64] {
    var dirty = carried
    carried = [:]
    for log in container.dirtyLogs { try ask(log, .wholeSpace, clear: true, &dirty) }
    return dirty
  }

  /// Unmaps, and returns what was dirty in the range. Where the backend can not do both at once,
  /// what is written between the two steps is in the answer only when `accountsForTheWindow`, and
  /// then everything is.
  public func unmap(
    _ range: IOVARange, accountsForTheWindow: Bool = false
  ) throws(ContainerError) -> (byteCount: UInt64, dirty: [UInt64: UInt64]) {
    var dirty: [UInt64: UInt64] = [:]
    var bytes: UInt64 = 0
    if container.capabilities.hasAtomicUnmap {
      let plan = UnmapPlan(
        container.capabilities, pageSize: .fourKiB, bitmapByteCountMax: 1 << 20)
      for step in plan.steps(table, in: range) {
        switch step {
        case .window(let window):
          var bitmap = Self.bitmap(window)
          bytes += try container.unmap(reportingInto: &bitmap)
          add(bitmap, &dirty)
        case .unqueryable(let part, _):
          markAll(part, &dirty)
          bytes += try container.unmap(part)
        }
      }
      if bytes == 0 { bytes = try container.unmap(range) }
    } else {
      for log in container.dirtyLogs where !log.capabilities.isAskedAfterUnmap {
        try ask(log, range, clear: !log.capabilities.canPeek, &dirty)
        if accountsForTheWindow { markAll(range, &dirty) }
      }
      bytes = try container.unmap(range)
    }
    for log in container.dirtyLogs where log.capabilities.isAskedAfterUnmap {
      try ask(log, range, clear: true, &dirty)
    }
    _ = try? table.unmap(range)
    dirty.merge(carried) { new, _ in new }
    carried = dirty.filter { !range.contains(IOVA($0.key << 12)) }
    return (bytes, dirty.filter { range.contains(IOVA($0.key << 12)) })
  }

  private func ask(
    _ log: any DirtyLog, _ range: IOVARange, clear: Bool, _ dirty: inout [UInt64: UInt64]
  ) throws(ContainerError) {
    let plan = QueryPlan(log.capabilities, pageSize: .fourKiB, bitmapByteCountMax: 1 << 20)
    for step in plan.steps(table, in: range, logged: logged[ObjectIdentifier(log)] ?? []) {
      switch step {
      case .window(let window):
        var bitmap = Self.bitmap(window)
        queryCount += 1
        try log.query(&bitmap, clear: clear)
        add(bitmap, &dirty)
      case .unqueryable(let part, _): markAll(part, &dirty)
      }
    }
  }

  public static func bitmap(_ window: IOVARange) -> QueryBitmap {
    let bytes = QueryBitmap.byteCount(window: window, pageSize: .fourKiB) ?? 8
    do {
      var bitmap = try QueryBitmap(byteCountMax: bytes)
      try bitmap.reset(window: window, pageSize: .fourKiB)
      return bitmap
    } catch {
      preconditionFailure("\(error)")
    }
  }

  /// Bits outside writable mappings are masked away, as every user of a container must.
  private func add(_ bitmap: borrowing QueryBitmap, _ dirty: inout [UInt64: UInt64]) {
    var runs: [IOVARange] = []
    bitmap.forEachDirtyRun { runs.append($0) }
    for run in runs { markAll(run, &dirty) }
  }

  private func markAll(_ range: IOVARange, _ dirty: inout [UInt64: UInt64]) {
    table.forEach(in: range) { mapping in
      guard mapping.isWritable, let part = mapping.clipped(to: range) else { return }
      for offset in 0..<part.iova.pageCount(.fourKiB) {
        dirty[(part.iova.first.rawValue >> 12) + offset] = (part.gpaFirst.rawValue >> 12) + offset
      }
    }
  }
}
