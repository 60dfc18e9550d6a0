import Addressing
import IOVAMapping

/// The search for the first step of a plan, see `QueryPlan.firstStep`.
struct StepSearch {
  private let plan: QueryPlan
  private let from: IOVA
  private let range: IOVARange
  private let logged: [IOVARange]
  private let gapMax: UInt64
  /// The length less one of the longest window, in bytes: wanted, and possible.
  private let offsetWanted: UInt64
  private let offsetMax: UInt64
  private var countLeft: Int
  /// The logged range that the window lies in.
  private var piece: IOVARange?

  init(
    plan: QueryPlan, range: IOVARange, logged: [IOVARange], gapByteCountMax: UInt64,
    bitmapByteCountTarget: UInt64, countLeft: Int
  ) {
    self.plan = plan
    from = range.first
    // What may be cut is cut at whole pages of the query.
    self.range = plan.capabilities.mayCutMapping ? range.expanded(to: plan.pageSize) : range
    self.logged = logged
    func builder(_ byteCountMax: UInt64) -> WindowBuilder {
      WindowBuilder(
        pageSize: plan.pageSize, byteCountMax: byteCountMax, gapByteCountMax: gapByteCountMax,
        mayCut: plan.capabilities.mayCutMapping, granule: plan.granule)
    }
    let wanted = builder(max(8, bitmapByteCountTarget))
    gapMax = wanted.gapMax
    offsetWanted = wanted.windowOffsetMax
    offsetMax = builder(plan.bitmapByteCountMax).windowOffsetMax
    self.countLeft = countLeft
  }

  private var mayCut: Bool { plan.capabilities.mayCutMapping }
  private var hasFixedRanges: Bool { plan.capabilities.rangeCountMax != nil }

  mutating func run(_ table: borrowing MappingTable) -> FirstStep {
    let first: IOVARange
    // What lies before in the same page of the query was looked at.
    let rest = AddressRange(first: from, last: range.last)
    switch table.firstWritable(in: rest, countLeft: &countLeft) {
    case .nothing: return FirstStep(step: nil, next: nil)
    case .gaveUp(let address): return FirstStep(step: nil, next: after(address))
    case .found(let iova): first = iova
    }
    // Otherwise whole pages of the table are whole pages of the query.
    guard mayCut || table.pageSize.bytes >= plan.pageSize.bytes else {
      return oddStep(table, first)
    }
    guard mayCut else { return step(table, first, within: range) }
    let part = first.intersection(rest) ?? first
    guard hasFixedRanges else { return step(table, part, within: range) }
    guard let piece = loggedRange(endingAtOrAfter: part.first), piece.first <= part.first else {
      return unlogged(table, part)
    }
    self.piece = piece
    return step(table, part, within: piece.intersection(range) ?? piece)
  }

  // MARK: windows

  /// The window that begins with `first`, writable and perhaps the part of a mapping.
  private mutating func step(
    _ table: borrowing MappingTable, _ first: IOVARange, within bounds: IOVARange
  ) -> FirstStep {
    let part = mayCut ? widened(clipped(first, bounds)) : first
    let limit = IOVA(Self.sum(part.first.rawValue, offsetWanted))
    guard part.last <= limit else {
      if mayCut { return window(AddressRange(first: part.first, last: limit)) }
      guard part.lastOffset <= offsetMax else { return end(.unqueryable(part, .tooLarge), part) }
      return window(part)
    }
    if plan.capabilities.mayCrossHoles { return jump(table, part, limit, bounds) }
    return walk(table, part, limit, bounds)
  }

  /// Makes the window longer by the distance of the largest gap at a time: nothing that lies in
  /// between is a reason to end it, so it is not looked at.
  private mutating func jump(
    _ table: borrowing MappingTable, _ part: IOVARange, _ limit: IOVA, _ bounds: IOVARange
  ) -> FirstStep {
    var open = part
    var end = min(limit, bounds.last)
    while countLeft > 0, open.last < end, let from = open.last.advanced(byBytes: 1) {
      let reach = min(end, IOVA(Self.sum(from.rawValue, gapMax)))
      let ahead = AddressRange(first: from, last: reach)
      guard case .found(let iova) = table.lastWritable(in: ahead, countLeft: &countLeft) else {
        break
      }
      if !mayCut, iova.last > limit {
        // It may not be cut and does not fit. What lies before it does.
        guard iova.first > from else { break }
        end = IOVA(iova.first.rawValue &- 1)
        continue
      }
      let last = mayCut ? min(iova.last.lastOfPage(plan.pageSize), end) : iova.last
      open = widened(AddressRange(first: open.first, last: last))
    }
    return window(open)
  }

  /// Extent by extent, up to the first hole.
  private func walk(
    _ table: borrowing MappingTable, _ part: IOVARange, _ limit: IOVA, _ bounds: IOVARange
  ) -> FirstStep {
    var open = part
    var mappedThrough = part.last
    guard let from = part.last.advanced(byBytes: 1), from <= min(limit, bounds.last) else {
      return window(open)
    }
    let ahead = AddressRange(first: from, last: min(limit, bounds.last))
    var countLeft = countLeft
    table.forEachExtent(in: ahead, countLeft: &countLeft) { extent in
      guard mappedThrough.rawValue &+ 1 >= extent.iova.first.rawValue else { return false }
      mappedThrough = extent.iova.last
      // The last page of the window may hold some of them already.
      guard extent.isWritable, extent.iova.last > open.last else { return true }
      let isNear =
        extent.iova.first <= open.last
        || extent.iova.first.rawValue &- open.last.rawValue &- 1 <= gapMax
      guard isNear else { return false }
      var last = extent.iova.last
      if mayCut { last = min(last.lastOfPage(plan.pageSize), ahead.last) }
      if !mayCut, last > limit {
        // All mappings of an extent are adjacent: the window ends before the one at its limit.
        guard let across = table.lookup(limit), across.iova.first > extent.iova.first else {
          return false
        }
        last =
          across.iova.last == limit ? limit : IOVA(across.iova.first.rawValue &- 1)
      }
      open = AddressRange(first: open.first, last: last)
      return last >= extent.iova.last
    }
    return window(open)
  }

  // MARK: what cannot be asked for

  /// Adjacent mappings of which the device logs nothing, up to the next logged range.
  private func unlogged(
    _ table: borrowing MappingTable, _ part: IOVARange
  ) -> FirstStep {
    var bounds = AddressRange(first: part.first, last: range.last)
    if let next = loggedRange(endingAtOrAfter: part.first) {
      bounds = AddressRange(
        first: part.first, last: min(range.last, IOVA(next.first.rawValue &- 1)))
    }
    var open = clipped(part, bounds)
    var countLeft = countLeft
    table.forEachExtent(in: bounds, countLeft: &countLeft) { extent in
      if extent.isWritable { open = clipped(extent.iova, bounds) }
      return false
    }
    return end(.unqueryable(open, .notLogged), open)
  }

  /// Pages of the query that are larger than those of the table may hold parts of mappings: each is
  /// looked at.
  private func oddStep(
    _ table: borrowing MappingTable, _ first: IOVARange
  ) -> FirstStep {
    let isOdd = !first.isAligned(to: plan.pageSize)
    if isOdd { return end(.unqueryable(first, .unaligned), first) }
    let limit = IOVA(Self.sum(first.first.rawValue, offsetWanted))
    guard first.last <= limit else {
      guard first.lastOffset <= offsetMax else {
        return end(.unqueryable(first, .tooLarge), first)
      }
      return window(first)
    }
    var batch: [Mapping] = []
    table.copyMappings(
      from: first.first, through: min(limit, range.last), into: &batch,
      countMax: max(1, countLeft))
    var open = first
    var mappedThrough = first
    for mapping in batch.dropFirst() {
      let isAdjacent = mappedThrough.isFollowed(by: mapping.iova)
      guard isAdjacent || plan.capabilities.mayCrossHoles else { break }
      mappedThrough = mapping.iova
      guard mapping.isWritable else { continue }
      let gap = mapping.iova.first.rawValue &- open.last.rawValue &- 1
      guard gap <= gapMax, mapping.iova.last <= limit, mapping.iova.isAligned(to: plan.pageSize)
      else { break }
      open = AddressRange(first: open.first, last: mapping.iova.last)
    }
    return window(open)
  }

  // MARK: ends

  private func window(_ window: IOVARange) -> FirstStep { end(.window(window), window) }

  private func end(_ step: QueryPlan.Step, _ done: IOVARange) -> FirstStep {
    FirstStep(step: step, next: after(done.last))
  }

  private func after(_ address: IOVA) -> IOVA? {
    address < range.last ? address.advanced(byBytes: 1) : nil
  }

  private func loggedRange(endingAtOrAfter address: IOVA) -> IOVARange? {
    var low = 0
    var high = logged.count
    while low < high {
      let middle = (low &+ high) / 2
      if logged[middle].last < address { low = middle &+ 1 } else { high = middle }
    }
    return low < logged.count ? logged[low] : nil
  }

  /// Whole granules of the log.
  private func widened(_ range: IOVARange) -> IOVARange {
    guard let piece else { return range }
    return plan.widened(range, in: piece)
  }

  /// Whole pages of the query, inside `bounds`, which consist of such.
  private func clipped(_ range: IOVARange, _ bounds: IOVARange) -> IOVARange {
    range.expanded(to: plan.pageSize).intersection(bounds) ?? range
  }

  private static func sum(_ address: UInt64, _ bytes: UInt64) -> UInt64 {
    let (sum, isPast) = address.addingReportingOverflow(bytes)
    return isPast ? UInt64.max : sum
  }
}
