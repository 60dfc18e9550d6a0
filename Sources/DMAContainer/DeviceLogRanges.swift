public import Addressing
public import IOVAMapping

/// What to start a device DMA log with: the writable mapped IOVA in at most so many ranges, the
/// smallest gaps joined, which keeps the logged bytes fewest (a device has a limit on those too).
///
/// Invariants:
/// 1. The ranges rise, do not overlap or touch, consist of whole granules of the log, and hold all
///    of the input. So none has fewer pages than a word of the log.
/// 2. No other choice of as many ranges holds fewer bytes.
public struct DeviceLogRanges: Hashable, Sendable {
  public let ranges: [IOVARange]
  /// Bytes logged that were not asked for: joined gaps and parts of pages.
  public let gapByteCount: UInt64

  /// The writable mappings of a table.
  public init(
    _ table: borrowing MappingTable, pageSize: PageSize, granule: DirtyLogGranule,
    rangeCountMax: Int = Limits.deviceLogRangeCountMax
  ) {
    var runs: [IOVARange] = []
    table.forEachRun(writableOnly: true) { runs.append($0) }
    self.init(runs, pageSize: pageSize, granule: granule, rangeCountMax: rangeCountMax)
  }

  /// - Parameter runs: sorted, not overlapping.
  /// - Precondition: `rangeCountMax` is positive.
  public init(
    _ runs: [IOVARange], pageSize: PageSize, granule: DirtyLogGranule, rangeCountMax: Int
  ) {
    precondition(rangeCountMax > 0, "a device log has at least one range")
    let whole = Self.expanded(runs, to: granule.size(startedWith: pageSize))
    let ranges = Self.joined(whole, countMax: rangeCountMax)
    self.ranges = ranges
    // Wraps only for the whole space, where both sums do.
    self.gapByteCount = Self.byteCount(ranges) &- Self.byteCount(runs)
  }

  /// Bytes logged; nil for the whole space.
  public var byteCount: UInt64? {
    ranges.first == .wholeSpace ? nil : Self.byteCount(ranges)
  }

  private static func byteCount(_ ranges: [IOVARange]) -> UInt64 {
    ranges.reduce(0) { $0 &+ $1.lastOffset &+ 1 }
  }

  /// Whole pages, with what then overlaps or touches made one.
  private static func expanded(_ runs: [IOVARange], to pageSize: PageSize) -> [IOVARange] {
    var whole: [IOVARange] = []
    whole.reserveCapacity(runs.count)
    for run in runs {
      let next = run.expanded(to: pageSize)
      if let open = whole.last, open.overlaps(next) || open.isFollowed(by: next) {
        whole[whole.count - 1] = AddressRange(first: open.first, last: max(open.last, next.last))
      } else {
        whole.append(next)
      }
    }
    return whole
  }

  /// Keeps the `countMax - 1` largest gaps and closes the others: O(n log n).
  private static func joined(_ whole: [IOVARange], countMax: Int) -> [IOVARange] {
    guard whole.count > countMax else { return whole }
    func gap(_ index: Int) -> UInt64 {
      whole[index].first.rawValue &- whole[index - 1].last.rawValue
    }
    // Of equal gaps the lower is kept, so that the same table gives the same ranges.
    var kept = (1..<whole.count).sorted { (gap($0), $1) > (gap($1), $0) }
    kept.removeLast(kept.count - (countMax - 1))
    kept.sort()
    var ranges: [IOVARange] = []
    ranges.reserveCapacity(countMax)
    var first = 0
    for start in kept {
      ranges.append(AddressRange(first: whole[first].first, last: whole[start - 1].last))
      first = start
    }
    ranges.append(AddressRange(first: whole[first].first, last: whole[whole.count - 1].last))
    return ranges
  }
}
