public import Addressing

/// One mapping of a client: what its device may reach, and how.
public struct DMARegion: Sendable {
  public enum Memory: Sendable {
    /// By DMA_READ and DMA_WRITE.
    case byMessage
    /// Bytes of a file from an offset on; by mmap, or by pread and pwrite where that is said.
    case file(OwnedDescriptor, offset: UInt64, access: DMAMapMessage.Access)
  }

  public let iova: IOVARange
  public let permissions: Permissions
  public let memory: Memory

  public init(iova: IOVARange, permissions: Permissions, memory: Memory) {
    self.iova = iova
    self.permissions = permissions
    self.memory = memory
  }

  /// True when both are the same range of the same file, however often it was opened.
  func isSame(as other: DMARegion) -> Bool {
    guard iova == other.iova, permissions == other.permissions else { return false }
    switch (memory, other.memory) {
    case (.byMessage, .byMessage): return true
    case (.file(let one, let from, let access), .file(let two, let to, let otherAccess)):
      return from == to && access == otherAccess && SocketSystem.isSameFile(one, two)
    default: return false
    }
  }
}

/// The mappings of one client, in IOVA order.
///
/// Shape: leaves of at most 512 regions and one directory of their first addresses: an insert moves
/// one leaf, and a million mappings have some thousands of leaves.
///
/// Invariants: regions do not overlap; no leaf is empty; `firsts[i]` is the first address of leaf
/// i.
struct DMATable: Sendable {
  private var leaves: [[DMARegion]] = []
  private var firsts: [UInt64] = []
  private(set) var count = 0

  private static let leafCountMax = 512

  /// The first index whose element is not before; `count` when there is none.
  private static func search(_ count: Int, _ isBefore: (Int) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(middle) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The leaf and the place in it where the first region lies that ends at `address` or behind it.
  private func place(_ address: IOVA) -> (leaf: Int, slot: Int)? {
    // The last leaf that begins at or before the address, or the one after it.
    var leaf = max(0, Self.search(leaves.count) { firsts[$0] <= address.rawValue } - 1)
    while leaf < leaves.count {
      let regions = leaves[leaf]
      let slot = Self.search(regions.count) { regions[$0].iova.last < address }
      if slot < regions.count { return (leaf, slot) }
      leaf += 1
    }
    return nil
  }

  func first(overlapping range: IOVARange) -> DMARegion? {
    guard let (leaf, slot) = place(range.first) else { return nil }
    let region = leaves[leaf][slot]
    return region.iova.first <= range.last ? region : nil
  }

  /// - Precondition: it overlaps none.
  mutating func insert(_ region: DMARegion) {
    count += 1
    guard !leaves.isEmpty else {
      leaves = [[region]]
      firsts = [region.iova.first.rawValue]
      return
    }
    let key = region.iova.first.rawValue
    let leaf = max(0, Self.search(leaves.count) { firsts[$0] <= key } - 1)
    let slot = Self.search(leaves[leaf].count) { leaves[leaf][$0].iova.first.rawValue < key }
    leaves[leaf].insert(region, at: slot)
    firsts[leaf] = leaves[leaf][0].iova.first.rawValue
    guard leaves[leaf].count > Self.leafCountMax else { return }
    // At the end the left leaf stays full: a guest that maps upwards fills its leaves.
    let isLast = leaf == leaves.count - 1 && slot == leaves[leaf].count - 1
    let kept = isLast ? leaves[leaf].count - 1 : leaves[leaf].count / 2
    let moved = Array(leaves[leaf][kept...])
    leaves[leaf].removeLast(moved.count)
    leaves.insert(moved, at: leaf + 1)
    firsts.insert(moved[0].iova.first.rawValue, at: leaf + 1)
  }

  /// Removes the region of exactly that range.
  mutating func remove(_ range: IOVARange) -> DMARegion? {
    guard let (leaf, slot) = place(range.first), leaves[leaf][slot].iova == range else {
      return nil
    }
    count -= 1
    let region = leaves[leaf].remove(at: slot)
    if leaves[leaf].isEmpty {
      leaves.remove(at: leaf)
      firsts.remove(at: leaf)
    } else {
      firsts[leaf] = leaves[leaf][0].iova.first.rawValue
    }
    return region
  }

  func exactly(_ range: IOVARange) -> DMARegion? {
    first(overlapping: range).flatMap { $0.iova == range ? $0 : nil }
  }

  /// What `range` touches, in order.
  func regions(touching range: IOVARange) -> [DMARegion] {
    guard var (leaf, slot) = place(range.first) else { return [] }
    var found: [DMARegion] = []
    while leaf < leaves.count {
      while slot < leaves[leaf].count {
        let region = leaves[leaf][slot]
        guard region.iova.first <= range.last else { return found }
        found.append(region)
        slot += 1
      }
      leaf += 1
      slot = 0
    }
    return found
  }

  /// Every region there was.
  mutating func removeAll() -> [DMARegion] {
    let all = leaves.flatMap { $0 }
    self = DMATable()
    return all
  }
}
