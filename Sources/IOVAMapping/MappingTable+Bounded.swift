public import Addressing

/// Searches and a walk in bounded work, for who holds a lock and must let it go soon. Each takes
/// what it read off `countLeft`, and reads no more once that is 0.
extension MappingTable {
  /// The first writable mapping that overlaps `range`.
  public func firstWritable(in range: IOVARange, countLeft: inout Int) -> BoundedSearch {
    var place = place(endingAtOrAfter: range.first.rawValue)
    var readThrough: IOVA?
    while let here = place {
      let leaf = leaves[here.leaf]
      guard leaf.first(here.slot) <= range.last.rawValue else { return .nothing }
      if let readThrough, countLeft <= 0 { return .gaveUp(at: readThrough) }
      countLeft &-= 1
      let iova = leaf.iova(here.slot)
      if leaf.isWritable(here.slot) { return .found(iova) }
      readThrough = iova.last
      place = next(here)
    }
    return .nothing
  }

  /// The last writable mapping that overlaps `range`.
  public func lastWritable(in range: IOVARange, countLeft: inout Int) -> BoundedSearch {
    guard !leaves.isEmpty else { return .nothing }
    var index = leafIndex(for: range.last.rawValue)
    var slot = countStarting(atOrBefore: range.last.rawValue, inLeaf: index) &- 1
    var readThrough: IOVA?
    while true {
      if slot < 0 {
        guard index > 0 else { return .nothing }
        index &-= 1
        slot = leaves[index].count &- 1
      }
      let leaf = leaves[index]
      let iova = leaf.iova(slot)
      guard iova.last >= range.first else { return .nothing }
      if let readThrough, countLeft <= 0 { return .gaveUp(at: readThrough) }
      countLeft &-= 1
      if leaf.isWritable(slot) { return .found(iova) }
      readThrough = iova.first
      slot &-= 1
    }
  }

  /// As ``forEachExtent(in:_:)``, until `body` answers false. A leaf whose mappings are adjacent,
  /// of one size and with the same permissions is read as one.
  ///
  /// The last extent may be cut short at a mapping's end, where `countLeft` came to 0.
  /// - Returns: the last address that was read when not all of the range was, nil otherwise.
  @discardableResult
  public func forEachExtent(
    in range: IOVARange, countLeft: inout Int, _ body: (MappingExtent) -> Bool
  ) -> IOVA? {
    guard let start = place(endingAtOrAfter: range.first.rawValue) else { return nil }
    var open: MappingExtent?
    var index = start.leaf
    var slot = start.slot
    while index < leaves.count, directory[index] <= range.last.rawValue {
      let leaf = leaves[index]
      let next = index &+ 1 < directory.count ? directory[index &+ 1] : UInt64.max
      let end =
        next > range.last.rawValue
        ? countStarting(atOrBefore: range.last.rawValue, inLeaf: index) : leaf.count
      let isEven = end &- slot > 1 && leaf.isEven
      while slot < end {
        let taken = isEven ? end &- slot : 1
        if let extent = open, countLeft <= 0 {
          _ = body(extent)
          return extent.iova.last
        }
        countLeft &-= 1
        let added = MappingExtent(
          iova: AddressRange(
            first: IOVA(leaf.first(slot)), last: IOVA(leaf.last(slot &+ taken &- 1))),
          isWritable: leaf.isWritable(slot))
        slot &+= taken
        if let extent = open {
          if extent.isWritable == added.isWritable, extent.iova.isFollowed(by: added.iova) {
            open = MappingExtent(
              iova: AddressRange(first: extent.iova.first, last: added.iova.last),
              isWritable: extent.isWritable)
            continue
          }
          guard body(extent) else { return extent.iova.last }
        }
        open = added
      }
      index &+= 1
      slot = 0
    }
    if let open { _ = body(open) }
    return nil
  }
}
