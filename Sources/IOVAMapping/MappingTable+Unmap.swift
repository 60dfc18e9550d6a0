public import Addressing

extension MappingTable {
  /// What an unmap of `range` is about; nil when nothing is mapped there.
  public func cut(_ range: IOVARange) -> MappingCut? {
    guard let start = place(endingAtOrAfter: range.first.rawValue),
      leaves[start.leaf].first(start.slot) <= range.last.rawValue
    else { return nil }
    return cut(range, from: start)
  }

  /// - Parameter start: the first mapping that overlaps the range.
  private func cut(_ range: IOVARange, from start: Place) -> MappingCut {
    let first = leaves[start.leaf].mapping(start.slot)
    let last =
      first.iova.last >= range.last || isAlone(start, in: range)
      ? first : lastMapping(overlapping: range) ?? first
    return MappingCut(
      range: range, first: first, last: last, refusal: refusal(of: range, first, last),
      start: start, generation: generation)
  }

  private func refusal(
    of range: IOVARange, _ first: Mapping, _ last: Mapping
  ) -> MappingError? {
    let cutsFirst = first.iova.first < range.first
    let cutsLast = last.iova.last > range.last
    guard cutsFirst || cutsLast else { return nil }
    if policy == .refuse {
      return .wouldBisect(range: range, mapping: cutsFirst ? first : last)
    }
    for mapping in [first, last] {
      if let part = range.intersection(mapping.iova), !part.isAligned(to: pageSize) {
        return .unaligned(iova: range, gpaFirst: mapping.gpaFirst, pageSize: pageSize)
      }
    }
    let isOne = first.iova.first == last.iova.first
    if cutsFirst, cutsLast, isOne, count >= mappingCountMax {
      return .tooManyMappings(limit: mappingCountMax)
    }
    return nil
  }

  /// Whether `unmap` of the range would succeed, without doing it.
  public func canUnmap(_ range: IOVARange) throws(MappingError) {
    if let refusal = cut(range)?.refusal { throw refusal }
  }

  /// Removes what is mapped in `range`: exactly, across several mappings and holes, or nothing.
  ///
  /// - Parameter removed: called with each removed mapping, or removed part, in IOVA order.
  @discardableResult
  public mutating func unmap(
    _ range: IOVARange, removed: (Mapping) -> Void = { _ in }
  ) throws(MappingError) -> UnmapResult {
    guard let start = place(endingAtOrAfter: range.first.rawValue),
      leaves[start.leaf].first(start.slot) <= range.last.rawValue
    else { return UnmapResult(generation: generation) }
    if isAlone(start, in: range) { return removeOnly(at: start, removed) }
    return try remove(cut(range, from: start), removed)
  }

  /// Removes what a cut is about, without another search.
  ///
  /// - Parameter removed: called with each removed mapping, or removed part, in IOVA order.
  /// - Precondition: the cut is one of this table, which has not changed since.
  @discardableResult
  public mutating func unmap(
    _ cut: MappingCut, removed: (Mapping) -> Void = { _ in }
  ) throws(MappingError) -> UnmapResult {
    let start = cut.start
    precondition(
      cut.generation == generation && start.leaf < leaves.count
        && start.slot < leaves[start.leaf].count
        && leaves[start.leaf].first(start.slot) == cut.first.iova.first.rawValue,
      "the table is as it was when the cut was found")
    if cut.isOne, !cut.isCut { return removeOnly(at: start, removed) }
    return try remove(cut, removed)
  }

  private mutating func removeOnly(at place: Place, _ removed: (Mapping) -> Void) -> UnmapResult {
    let mapping = removeWhole(at: place)
    removed(mapping)
    return UnmapResult(
      mappingCount: 1, pageCount: mapping.iova.lastOffset &>> 12 &+ 1, generation: generation)
  }

  /// Kept parts take the place of the mapping they are a part of, and are as old.
  private mutating func remove(
    _ cut: MappingCut, _ removed: (Mapping) -> Void
  ) throws(MappingError) -> UnmapResult {
    if let refusal = cut.refusal { throw refusal }
    generation = Generation(generation.rawValue &+ 1)
    var result = UnmapResult(generation: generation)
    var start: Place? = cut.start
    if let left = cut.left {
      replace(cut.start, with: left)
      retire(cut.first, in: cut.range, &result, removed)
      if cut.isOne, let right = cut.right {
        count &+= 1
        insert(right, at: Place(leaf: cut.start.leaf, slot: cut.start.slot &+ 1))
      }
      start = cut.isOne ? nil : next(cut.start)
    } else if cut.isOne, let right = cut.right {
      replace(cut.start, with: right)
      retire(cut.first, in: cut.range, &result, removed)
      start = nil
    }
    if let start { removeWhole(from: start, cut, &result, removed) }
    return result
  }

  private mutating func retire(
    _ mapping: Mapping, in range: IOVARange, _ result: inout UnmapResult,
    _ removed: (Mapping) -> Void
  ) {
    guard let part = mapping.clipped(to: range) else { return }
    count(part, -1)
    retiredRing.append(RetiredMapping(mapping: part, retired: generation))
    result.mappingCount &+= 1
    result.pageCount &+= part.iova.pageCount(.fourKiB)
    removed(part)
  }

  private mutating func replace(_ place: Place, with part: Mapping) {
    leaves[place.leaf].replace(place.slot, with: part)
    if place.slot == 0 { directory[place.leaf] = part.iova.first.rawValue }
  }

  /// Whether the mapping lies wholly in the range and no other begins there: what nearly every
  /// unmap is about.
  @inline(__always) private func isAlone(_ place: Place, in range: IOVARange) -> Bool {
    let leaf = leaves[place.leaf]
    guard leaf.first(place.slot) >= range.first.rawValue,
      leaf.last(place.slot) <= range.last.rawValue
    else { return false }
    if place.slot &+ 1 < leaf.count { return leaf.first(place.slot &+ 1) > range.last.rawValue }
    return place.leaf &+ 1 == leaves.count || directory[place.leaf &+ 1] > range.last.rawValue
  }

  private mutating func removeWhole(at place: Place) -> Mapping {
    let leaf = leaves[place.leaf]
    let mapping = leaf.mapping(place.slot)
    generation = Generation(generation.rawValue &+ 1)
    count &-= 1
    count(mapping, -1)
    retiredRing.append(RetiredMapping(mapping: mapping, retired: generation))
    leaf.remove(place.slot..<(place.slot &+ 1))
    if leaf.count == 0 {
      leaf.deallocate()
      leaves.remove(at: place.leaf)
      directory.remove(at: place.leaf)
    } else {
      if place.slot == 0 { directory[place.leaf] = leaf.first(0) }
      mergeIfSparse(place.leaf)
    }
    return mapping
  }

  /// Removes everything.
  public mutating func removeAll(removed: (Mapping) -> Void = { _ in }) {
    _ = try? unmap(.wholeSpace, removed: removed)
  }

  /// The last mapping that overlaps `range`.
  public func lastMapping(overlapping range: IOVARange) -> Mapping? {
    guard !leaves.isEmpty else { return nil }
    let index = leafIndex(for: range.last.rawValue)
    let leaf = leaves[index]
    let after = countStarting(atOrBefore: range.last.rawValue, inLeaf: index)
    guard after > 0, leaf.last(after &- 1) >= range.first.rawValue else { return nil }
    return leaf.mapping(after &- 1)
  }

  /// Takes the mappings from `start` on out, leaf by leaf, but for the last one's part that stays.
  private mutating func removeWhole(
    from start: Place, _ cut: MappingCut, _ result: inout UnmapResult,
    _ removed: (Mapping) -> Void
  ) {
    let range = cut.range
    var index = start.leaf
    var slot = start.slot
    var emptied: Range<Int> = start.leaf..<start.leaf
    while index < leaves.count {
      let leaf = leaves[index]
      // Where the next leaf begins in the range, this one lies in it.
      let isInside = index &+ 1 < directory.count && directory[index &+ 1] <= range.last.rawValue
      let end =
        isInside ? leaf.count : countStarting(atOrBefore: range.last.rawValue, inLeaf: index)
      guard end > slot else { break }
      for position in slot..<end { retire(leaf.mapping(position), in: range, &result, removed) }
      let right = isInside ? nil : cut.right
      let kept = right == nil ? 0 : 1
      count &-= end &- slot &- kept
      let isLast = end < leaf.count || right != nil
      if let right { leaf.replace(end &- 1, with: right) }
      leaf.remove(slot..<(end &- kept))
      if leaf.count == 0 {
        leaf.deallocate()
        emptied = (emptied.isEmpty ? index : emptied.lowerBound)..<(index &+ 1)
      } else if slot == 0 {
        directory[index] = leaf.first(0)
      }
      if isLast { break }
      index &+= 1
      slot = 0
    }
    if !emptied.isEmpty {
      leaves.removeSubrange(emptied)
      directory.removeSubrange(emptied)
    }
    let near = min(start.leaf, leaves.count &- 1)
    if near >= 0 { mergeIfSparse(near) }
  }

  /// Joins a sparse leaf with a neighbour, so that memory follows the number of mappings.
  private mutating func mergeIfSparse(_ index: Int) {
    guard leaves[index].count < MappingLeaf.capacity / 4 else { return }
    if index &+ 1 < leaves.count,
      leaves[index].count &+ leaves[index &+ 1].count <= MappingLeaf.capacity * 3 / 4
    {
      join(index)
    } else if index > 0,
      leaves[index &- 1].count &+ leaves[index].count <= MappingLeaf.capacity * 3 / 4
    {
      join(index &- 1)
    }
  }

  private mutating func join(_ index: Int) {
    let next = leaves[index &+ 1]
    next.moveHead(next.count, to: leaves[index])
    next.deallocate()
    leaves.remove(at: index &+ 1)
    directory.remove(at: index &+ 1)
  }
}
