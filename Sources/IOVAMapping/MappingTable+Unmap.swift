public import Addressing

extension MappingTable {
  /// Whether `unmap` of the range would succeed, without doing it.
  public func canUnmap(_ range: IOVARange) throws(MappingError) {
    guard let first = firstMapping(overlapping: range) else { return }
    let last = lastMapping(overlapping: range) ?? first
    let cutsFirst = first.iova.first < range.first
    let cutsLast = last.iova.last > range.last
    guard cutsFirst || cutsLast else { return }
    if policy == .refuse {
      throw .wouldBisect(range: range, mapping: cutsFirst ? first : last)
    }
    if let part = range.intersection(first.iova), !part.isAligned(to: pageSize) {
      throw .unaligned(iova: range, gpaFirst: first.gpaFirst, pageSize: pageSize)
    }
    if let part = range.intersection(last.iova), !part.isAligned(to: pageSize) {
      throw .unaligned(iova: range, gpaFirst: last.gpaFirst, pageSize: pageSize)
    }
    if cutsFirst, cutsLast, first.iova == last.iova, count >= mappingCountMax {
      throw .tooManyMappings(limit: mappingCountMax)
    }
  }

  /// Removes what is mapped in `range`: exactly, across several mappings and holes, or nothing.
  ///
  /// - Parameter removed: called with each removed mapping, or removed part, in IOVA order.
  @discardableResult
  public mutating func unmap(
    _ range: IOVARange, removed: (Mapping) -> Void = { _ in }
  ) throws(MappingError) -> UnmapResult {
    try canUnmap(range)
    var result = UnmapResult(generation: generation)
    guard let first = firstMapping(overlapping: range) else { return result }
    let last = lastMapping(overlapping: range) ?? first
    generation = Generation(generation.rawValue &+ 1)
    result.generation = generation
    removeAll(overlapping: range) { mapping in
      guard let part = mapping.clipped(to: range) else { return }
      result.mappingCount &+= 1
      result.pageCount &+= part.iova.pageCount(.fourKiB)
      removed(part)
    }
    // Kept parts go back in; they are as old as the mapping they were part of.
    if first.iova.first < range.first {
      let left = AddressRange(first: first.iova.first, last: IOVA(range.first.rawValue &- 1))
      if let part = first.clipped(to: left) { reinsert(part) }
    }
    if last.iova.last > range.last {
      let right = AddressRange(first: IOVA(range.last.rawValue &+ 1), last: last.iova.last)
      if let part = last.clipped(to: right) { reinsert(part) }
    }
    return result
  }

  /// Removes everything.
  public mutating func removeAll(removed: (Mapping) -> Void = { _ in }) {
    _ = try? unmap(.wholeSpace, removed: removed)
  }

  /// The last mapping that overlaps `range`.
  public func lastMapping(overlapping range: IOVARange) -> Mapping? {
    guard !leaves.isEmpty else { return nil }
    let leaf = leaves[leafIndex(for: range.last.rawValue)]
    let after = leaf.countStarting(atOrBefore: range.last.rawValue)
    guard after > 0, leaf.last(after &- 1) >= range.first.rawValue else { return nil }
    return leaf.mapping(after &- 1)
  }

  private mutating func reinsert(_ mapping: Mapping) {
    count &+= 1
    count(mapping, +1)
    guard !leaves.isEmpty else {
      let leaf = MappingLeaf()
      leaf.insert(mapping, at: 0)
      leaves.append(leaf)
      directory.append(mapping.iova.first.rawValue)
      return
    }
    let index = leafIndex(for: mapping.iova.first.rawValue)
    let slot = leaves[index].countStarting(atOrBefore: mapping.iova.first.rawValue)
    insert(mapping, at: Place(leaf: index, slot: slot))
  }

  /// Takes whole mappings out, leaf by leaf, retiring the part of each inside the range.
  private mutating func removeAll(overlapping range: IOVARange, _ body: (Mapping) -> Void) {
    guard let start = place(endingAtOrAfter: range.first.rawValue) else { return }
    var index = start.leaf
    var slot = start.slot
    var emptied: Range<Int> = start.leaf..<start.leaf
    while index < leaves.count {
      let leaf = leaves[index]
      let end = leaf.countStarting(atOrBefore: range.last.rawValue)
      guard end > slot else { break }
      for position in slot..<end {
        let mapping = leaf.mapping(position)
        count &-= 1
        count(mapping, -1)
        if let part = mapping.clipped(to: range) {
          retiredRing.append(RetiredMapping(mapping: part, retired: generation))
        }
        body(mapping)
      }
      let isLast = end < leaf.count
      leaf.remove(slot..<end)
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
