import Addressing

extension MappingTable {
  /// Traps when an invariant of the table does not hold. For tests; costs a walk of everything.
  public func checkInvariants() {
    precondition(directory.count == leaves.count, "one directory entry a leaf")
    var found = 0
    var pages: UInt64 = 0
    var writable: UInt64 = 0
    var previous: Mapping?
    for (index, leaf) in leaves.enumerated() {
      precondition(leaf.count > 0 && leaf.count <= MappingLeaf.capacity, "no leaf is empty")
      precondition(directory[index] == leaf.first(0), "the directory names the first IOVA")
      checkEvenness(leaf)
      for slot in 0..<leaf.count {
        let mapping = leaf.mapping(slot)
        if let previous { precondition(previous.iova.last < mapping.iova.first, "in order") }
        precondition(mapping.generation <= generation, "no mapping is younger than the table")
        previous = mapping
        found += 1
        pages += mapping.iova.pageCount(.fourKiB)
        if mapping.isWritable { writable += mapping.iova.pageCount(.fourKiB) }
      }
    }
    precondition(found == count, "the count counts")
    precondition(pages == mappedPageCount && writable == writablePageCount, "pages are counted")
  }

  /// What a leaf notes is true, and was forgotten when it changed. Notes it, for the next time.
  private func checkEvenness(_ leaf: MappingLeaf) {
    let mappings = (0..<leaf.count).map { leaf.mapping($0) }
    let areEven = zip(mappings, mappings.dropFirst()).allSatisfy { one, next in
      one.iova.isFollowed(by: next.iova) && one.iova.lastOffset == next.iova.lastOffset
        && one.permissions == next.permissions
    }
    let pages = areEven ? mappings[0].iova.pageCount(.fourKiB) : 0
    let noted = leaf.packedMappings(0..<leaf.count, asking: leaf).evenPageCount
    precondition(noted == (pages <= 1 << 32 ? pages : 0), "the note of a leaf is true")
  }
}
