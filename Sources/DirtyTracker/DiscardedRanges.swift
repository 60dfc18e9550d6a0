package import Addressing

/// RAM the guest has given back, as ranges in GPA order, none overlapping or touching another.
///
/// Their number is bounded. Past the limit the smallest range, the new one among equals, is
/// forgotten: it counts as populated, though the guest does not use it. Nothing is lost by that. A
/// container that maps it pins memory for nothing, and what a device writes there is tracked as
/// anywhere else.
package struct DiscardedRanges: Sendable {
  package private(set) var ranges: [GPARange] = []
  package let countMax: Int

  package init(countMax: Int = Limits.discardedRangeCountMax) { self.countMax = countMax }

  /// - Returns: a range that counts as populated for want of room.
  package mutating func insert(_ range: GPARange) -> GPARange? {
    // What touches it becomes one with it.
    let before = range.first.rawValue == 0 ? range.first : GPA(range.first.rawValue &- 1)
    let after = range.last.rawValue == .max ? range.last : GPA(range.last.rawValue &+ 1)
    let touched = indexes(touching: AddressRange(first: before, last: after))
    var whole = range
    if let first = touched.first, let last = touched.last {
      whole = AddressRange(
        first: min(range.first, ranges[first].first), last: max(range.last, ranges[last].last))
    }
    ranges.replaceSubrange(touched, with: CollectionOfOne(whole))
    return forgetSmallest(of: touched.lowerBound..<(touched.lowerBound &+ 1))
  }

  /// - Returns: a range beside the one removed that counts as populated as well, for want of room.
  package mutating func remove(_ range: GPARange) -> GPARange? {
    let touched = indexes(touching: range)
    guard let first = touched.first, let last = touched.last else { return nil }
    var kept: [GPARange] = []
    if ranges[first].first < range.first {
      kept.append(
        AddressRange(first: ranges[first].first, last: GPA(range.first.rawValue &- 1)))
    }
    if ranges[last].last > range.last {
      kept.append(AddressRange(first: GPA(range.last.rawValue &+ 1), last: ranges[last].last))
    }
    ranges.replaceSubrange(touched, with: kept)
    return forgetSmallest(of: touched.lowerBound..<(touched.lowerBound &+ kept.count))
  }

  /// The first range that ends at `address` or after it.
  package func index(endingFrom address: GPA) -> Int {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low &+ high) / 2
      if ranges[middle].last < address { low = middle &+ 1 } else { high = middle }
    }
    return low
  }

  private func indexes(touching range: GPARange) -> Range<Int> {
    let first = index(endingFrom: range.first)
    var low = first
    var high = ranges.count
    while low < high {
      let middle = (low &+ high) / 2
      if ranges[middle].first <= range.last { low = middle &+ 1 } else { high = middle }
    }
    return first..<low
  }

  private mutating func forgetSmallest(of changed: Range<Int>) -> GPARange? {
    guard ranges.count > countMax else { return nil }
    var smallest = changed.lowerBound
    for index in changed where ranges[index].lastOffset < ranges[smallest].lastOffset {
      smallest = index
    }
    for index in ranges.indices where ranges[index].lastOffset < ranges[smallest].lastOffset {
      smallest = index
    }
    return ranges.remove(at: smallest)
  }
}
