package import Addressing
package import GuestDirtyLog
import Locking

/// Guest RAM as the memory listener told it: where its regions are, and what of them the guest has
/// given back (virtio-mem, a balloon).
package final class RAMLayout: Sendable {
  private struct State {
    /// In GPA order, not overlapping.
    var regions: [RAMRegion] = []
    var discarded: DiscardedRanges

    /// The first region that ends at `address` or after it.
    func index(endingFrom address: GPA) -> Int {
      var low = 0
      var high = regions.count
      while low < high {
        let middle = (low &+ high) / 2
        if regions[middle].gpa.last < address { low = middle &+ 1 } else { high = middle }
      }
      return low
    }
  }

  private let state: Mutex<State>

  package init(discardedRangeCountMax: Int = Limits.discardedRangeCountMax) {
    state = Mutex(State(discarded: DiscardedRanges(countMax: discardedRangeCountMax)))
  }

  package var regions: [RAMRegion] { state.withLock { $0.regions } }

  package var discarded: [GPARange] { state.withLock { $0.discarded.ranges } }

  package func add(_ region: RAMRegion) {
    state.withLock { state in
      state.regions.insert(region, at: state.index(endingFrom: region.gpa.first))
    }
  }

  /// What is discarded of it is RAM no more.
  package func remove(_ region: RAMRegion) {
    state.withLock { state in
      state.regions.removeAll { $0.gpa.overlaps(region.gpa) }
      _ = state.discarded.remove(region.gpa)
    }
  }

  /// - Returns: a range that counts as populated though it was given back, past the limit of
  ///   discarded ranges: this one, or a smaller one that was given back before.
  @discardableResult
  package func discard(_ range: GPARange) -> GPARange? {
    state.withLock { $0.discarded.insert(range) }
  }

  /// - Returns: as ``discard(_:)``; what is forgotten may lie beside `range`, which cuts what was
  ///   discarded in two.
  @discardableResult
  package func populate(_ range: GPARange) -> GPARange? {
    state.withLock { $0.discarded.remove(range) }
  }

  /// The populated parts of RAM inside `range`, in GPA order, each with its region; `countMax` at
  /// most. To go on, ask again from the address after the last one's end.
  ///
  /// It costs two searches and a step for each part and for each range discarded between them.
  package func populated(
    in range: GPARange, countMax: Int = .max
  ) -> [(region: RAMRegion, gpa: GPARange)] {
    state.withLock { state in
      var found: [(region: RAMRegion, gpa: GPARange)] = []
      let discarded = state.discarded.ranges
      var gone = state.discarded.index(endingFrom: range.first)
      var index = state.index(endingFrom: range.first)
      while index < state.regions.count, found.count < countMax,
        let inside = state.regions[index].gpa.intersection(range)
      {
        var rest: GPARange? = inside
        while let part = rest, found.count < countMax {
          while gone < discarded.count, discarded[gone].last < part.first { gone &+= 1 }
          guard gone < discarded.count, let hole = discarded[gone].intersection(part) else {
            found.append((state.regions[index], part))
            break
          }
          if hole.first > part.first {
            let before = AddressRange(first: part.first, last: GPA(hole.first.rawValue &- 1))
            found.append((state.regions[index], before))
          }
          rest =
            hole.last < part.last
            ? AddressRange(first: GPA(hole.last.rawValue &+ 1), last: part.last) : nil
        }
        index &+= 1
      }
      return found
    }
  }

  /// What this process sees behind `range`.
  package func hostMemory(behind range: GPARange) -> HostMemory {
    state.withLock { state in
      var start: HVA?
      // Where the next part has to begin, in GPA and in HVA, for the range to be one piece.
      var next: (gpa: GPA?, hva: HVA?) = (range.first, nil)
      var isOnePiece = true
      var index = state.index(endingFrom: range.first)
      while index < state.regions.count,
        let part = state.regions[index].gpa.intersection(range)
      {
        let region = state.regions[index]
        let offset = part.first.rawValue &- region.gpa.first.rawValue
        let hva = region.hvaFirst?.advanced(byBytes: offset)
        isOnePiece =
          isOnePiece && hva != nil && part.first == next.gpa && (start == nil || hva == next.hva)
        start = start ?? hva
        if start != nil, !isOnePiece { return .notContiguous }
        next = (part.last.advanced(byBytes: 1), hva?.advanced(byBytes: part.lastOffset &+ 1))
        if part.last == range.last { break }
        index &+= 1
      }
      guard let start else { return .notVisible }
      return next.gpa == range.last.advanced(byBytes: 1) ? .contiguous(start) : .notContiguous
    }
  }
}
