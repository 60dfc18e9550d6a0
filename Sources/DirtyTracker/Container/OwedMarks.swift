import Addressing

/// Ranges of IOVA whose writable mappings are to be marked dirty, and are not yet.
///
/// What makes a large range dirty (a log that was restarted, a device that came, a query that
/// failed) writes the range down here before the container's lock is released, and pays it in
/// pieces later. An unmap inside an owed range pays for what it removes, since its mapping is gone
/// when the piece's turn comes.
///
/// Example: a log is restarted, so all of IOVA is owed. The first piece marks the mappings below
/// 0x8000_0000 and the range becomes 0x8000_0000 to the top. A guest unmaps 0x9000_0000 now: all of
/// that mapping is marked, whatever the log says. Then the next piece.
///
/// Invariants:
/// 1. Ranges rise; none overlaps or touches the next.
/// 2. A range leaves only from its front, as far as it was paid.
/// 3. At most `countMax` ranges: past that they are joined, which owes more and never less.
struct OwedMarks: Sendable {
  static let countMax = 1024
  private(set) var ranges: [IOVARange] = []

  var isEmpty: Bool { ranges.isEmpty }

  mutating func add(_ range: IOVARange) {
    var merged = range
    let low = partition { $0.last < range.first && !$0.isFollowed(by: range) }
    var high = low
    while high < ranges.count,
      ranges[high].overlaps(merged) || ranges[high].isFollowed(by: merged)
        || merged.isFollowed(by: ranges[high])
    {
      merged = AddressRange(
        first: min(merged.first, ranges[high].first), last: max(merged.last, ranges[high].last))
      high += 1
    }
    ranges.replaceSubrange(low..<high, with: [merged])
    if ranges.count > Self.countMax, let first = ranges.first, let last = ranges.last {
      ranges = [AddressRange(first: first.first, last: last.last)]
    }
  }

  func overlaps(_ range: IOVARange) -> Bool {
    if ranges.isEmpty { return false }
    let index = partition { $0.last < range.first }
    return index < ranges.count && ranges[index].first <= range.last
  }

  /// Everything below `next` of the first range is marked; nil: all of that range is.
  mutating func paid(before next: IOVA?) {
    guard let first = ranges.first else { return }
    if let next, next <= first.last {
      ranges[0] = AddressRange(first: next, last: first.last)
    } else {
      ranges.removeFirst()
    }
  }

  mutating func forgive() { ranges = [] }

  /// The first index whose range does not lie before what is looked for.
  private func partition(_ isBefore: (IOVARange) -> Bool) -> Int {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if isBefore(ranges[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
