public import Addressing

extension MappingTable {
  /// Adds a mapping. An overlap, also with an identical mapping, is an error.
  @discardableResult
  public mutating func map(
    _ iova: IOVARange, to gpaFirst: GPA, permissions: Permissions
  ) throws(MappingError) -> Generation {
    try check(iova, gpaFirst)
    let mapping = Mapping(
      iova: iova, gpaFirst: gpaFirst, permissions: permissions,
      generation: Generation(generation.rawValue &+ 1))
    try enter(mapping)
    generation = mapping.generation
    return generation
  }

  /// Enters a mapping of a table that was copied, which takes no generation.
  package mutating func restore(_ mapping: Mapping) throws(MappingError) {
    try check(mapping.iova, mapping.gpaFirst)
    try enter(mapping)
  }

  /// As it was in a table that was copied, all of whose mappings are here.
  package mutating func restore(generation: Generation) { self.generation = generation }

  private func check(_ iova: IOVARange, _ gpaFirst: GPA) throws(MappingError) {
    guard iova.isAligned(to: pageSize), gpaFirst.isAligned(to: pageSize) else {
      throw .unaligned(iova: iova, gpaFirst: gpaFirst, pageSize: pageSize)
    }
    guard iova.lastOffset < Limits.mappingByteCountMax else {
      throw .mappingTooLarge(iova, byteCountMax: Limits.mappingByteCountMax)
    }
    guard gpaFirst.advanced(byBytes: iova.lastOffset) != nil else {
      throw .gpaOverflow(iova, gpaFirst: gpaFirst)
    }
    guard count < mappingCountMax else { throw .tooManyMappings(limit: mappingCountMax) }
  }

  private mutating func enter(_ mapping: Mapping) throws(MappingError) {
    let iova = mapping.iova
    guard !leaves.isEmpty else {
      appendLeaf(holding: mapping)
      return add(mapping)
    }
    let index = leafIndex(for: iova.first.rawValue)
    let leaf = leaves[index]
    let slot = countStarting(atOrBefore: iova.first.rawValue, inLeaf: index)
    if slot > 0, leaf.last(slot &- 1) >= iova.first.rawValue {
      throw .overlap(new: iova, existing: leaf.mapping(slot &- 1))
    }
    if slot < leaf.count {
      if leaf.first(slot) <= iova.last.rawValue {
        throw .overlap(new: iova, existing: leaf.mapping(slot))
      }
    } else if index &+ 1 < leaves.count, directory[index &+ 1] <= iova.last.rawValue {
      throw .overlap(new: iova, existing: leaves[index &+ 1].mapping(0))
    }
    insert(mapping, at: Place(leaf: index, slot: slot))
    add(mapping)
  }

  private mutating func add(_ mapping: Mapping) {
    count &+= 1
    count(mapping, +1)
  }

  mutating func count(_ mapping: Mapping, _ sign: Int) {
    let pages = mapping.iova.lastOffset &>> 12 &+ 1
    let change = sign > 0 ? pages : 0 &- pages
    mappedPageCount = mappedPageCount &+ change
    if mapping.isWritable { writablePageCount = writablePageCount &+ change }
  }

  private mutating func appendLeaf(holding mapping: Mapping) {
    let leaf = MappingLeaf()
    leaf.insert(mapping, at: 0)
    directory.append(mapping.iova.first.rawValue)
    leaves.append(leaf)
  }

  /// Puts a mapping in its place, making room where the leaf is full.
  mutating func insert(_ mapping: Mapping, at place: Place) {
    var place = place
    if leaves[place.leaf].count == MappingLeaf.capacity {
      if place.leaf &+ 1 == leaves.count, place.slot == MappingLeaf.capacity {
        // Mapped in rising order: full leaves stay full.
        return appendLeaf(holding: mapping)
      }
      place = makeRoom(at: place)
    }
    leaves[place.leaf].insert(mapping, at: place.slot)
    if place.slot == 0 { directory[place.leaf] = mapping.iova.first.rawValue }
  }

  /// Shares a full leaf with a neighbour that has room, so that leaves stay four fifths full on
  /// average; splits it only when both neighbours are nearly full too.
  private mutating func makeRoom(at place: Place) -> Place {
    let index = place.leaf
    let leaf = leaves[index]
    let enough = MappingLeaf.capacity &- MappingLeaf.capacity / 16
    if index > 0, leaves[index &- 1].count < enough {
      let previous = leaves[index &- 1]
      let moved = (leaf.count &- previous.count &+ 1) / 2
      leaf.moveHead(moved, to: previous)
      directory[index] = leaf.first(0)
      return place.slot <= moved
        ? Place(leaf: index &- 1, slot: previous.count &- moved &+ place.slot)
        : Place(leaf: index, slot: place.slot &- moved)
    }
    let moved: Int
    if index &+ 1 < leaves.count, leaves[index &+ 1].count < enough {
      moved = (leaf.count &- leaves[index &+ 1].count &+ 1) / 2
    } else {
      moved = leaf.count / 2
      leaves.insert(MappingLeaf(), at: index &+ 1)
      directory.insert(0, at: index &+ 1)
    }
    leaf.moveTail(moved, to: leaves[index &+ 1])
    directory[index &+ 1] = leaves[index &+ 1].first(0)
    return place.slot <= leaf.count
      ? Place(leaf: index, slot: place.slot)
      : Place(leaf: index &+ 1, slot: place.slot &- leaf.count)
  }
}
