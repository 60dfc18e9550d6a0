import Addressing
import GuestDirtyLog
import Locking

/// Guest RAM as the memory listener told it: where its regions are, and what of them the guest has
/// given back (virtio-mem, a balloon).
final class RAMLayout: Sendable {
  private struct State {
    /// In GPA order, not overlapping.
    var regions: [RAMRegion] = []
    /// In GPA order, not overlapping or touching.
    var discarded: [GPARange] = []
  }

  private let state = Mutex(State())

  var regions: [RAMRegion] { state.withLock { $0.regions } }

  var discarded: [GPARange] { state.withLock { $0.discarded } }

  func add(_ region: RAMRegion) {
    state.withLock { state in
      let index = state.regions.firstIndex { $0.gpa.first > region.gpa.first }
      state.regions.insert(region, at: index ?? state.regions.count)
    }
  }

  func remove(_ region: RAMRegion) {
    state.withLock { state in
      state.regions.removeAll { $0.gpa.overlaps(region.gpa) }
      state.discarded = Self.subtracting(region.gpa, from: state.discarded)
    }
  }

  func discard(_ range: GPARange) {
    state.withLock { state in
      var merged = range
      var others: [GPARange] = []
      for other in state.discarded {
        if other.overlaps(merged) || other.isFollowed(by: merged) || merged.isFollowed(by: other) {
          merged = AddressRange(
            first: min(merged.first, other.first), last: max(merged.last, other.last))
        } else {
          others.append(other)
        }
      }
      let index = others.firstIndex { $0.first > merged.first } ?? others.count
      others.insert(merged, at: index)
      state.discarded = others
    }
  }

  func populate(_ range: GPARange) {
    state.withLock { $0.discarded = Self.subtracting(range, from: $0.discarded) }
  }

  /// The populated parts of RAM inside `range`, each with its region.
  func populated(in range: GPARange) -> [(region: RAMRegion, gpa: GPARange)] {
    state.withLock { state in
      var found: [(region: RAMRegion, gpa: GPARange)] = []
      for region in state.regions {
        guard let part = region.gpa.intersection(range) else { continue }
        var parts = [part]
        for gone in state.discarded { parts = Self.subtracting(gone, from: parts) }
        for part in parts { found.append((region, part)) }
      }
      return found
    }
  }

  /// Where this process sees `range`.
  /// - Returns: nil when it is not one piece of memory; an empty address when this process does not
  ///   see it at all, which is so for a BAR, for one.
  func hva(behind range: GPARange) -> HVA?? {
    state.withLock { state in
      var low = 0
      var high = state.regions.count
      while low < high {
        let middle = (low &+ high) / 2
        if state.regions[middle].gpa.last < range.first { low = middle &+ 1 } else { high = middle }
      }
      guard low < state.regions.count else { return .some(nil) }
      var region = state.regions[low]
      guard region.gpa.first <= range.first else {
        return region.gpa.first > range.last || region.hvaFirst == nil ? .some(nil) : nil
      }
      let hva = region.hvaFirst
      let offset = range.first.rawValue &- region.gpa.first.rawValue
      while region.gpa.last < range.last {
        guard low &+ 1 < state.regions.count else { return hva == nil ? .some(nil) : nil }
        low &+= 1
        let next = state.regions[low]
        let isSeamless =
          region.gpa.isFollowed(by: next.gpa)
          && next.hvaFirst?.rawValue
            == region.hvaFirst.map { $0.rawValue &+ region.gpa.lastOffset &+ 1 }
        guard isSeamless || (region.hvaFirst == nil && next.hvaFirst == nil) else { return nil }
        region = next
      }
      return .some(hva?.advanced(byBytes: offset))
    }
  }

  private static func subtracting(_ gone: GPARange, from ranges: [GPARange]) -> [GPARange] {
    var left: [GPARange] = []
    for range in ranges {
      guard range.overlaps(gone) else {
        left.append(range)
        continue
      }
      if range.first < gone.first {
        left.append(AddressRange(first: range.first, last: GPA(gone.first.rawValue &- 1)))
      }
      if range.last > gone.last {
        left.append(AddressRange(first: GPA(gone.last.rawValue &+ 1), last: range.last))
      }
    }
    return left
  }
}
