package import Addressing

extension MappingTable {
  /// Leaves that are handed out together.
  private static let leavesAtOnce = 16

  /// Calls `body` with the mappings that overlap a range, in IOVA order and as they are packed,
  /// some leaves at a time. It must not keep them.
  ///
  /// - Returns: how many mappings were read, at most `countMax`, and the last address of the last
  ///   of them.
  package func withPacked(
    from: IOVA, through last: IOVA, countMax: Int, _ body: (Span<PackedMappings>) -> Void
  ) -> (count: Int, last: IOVA?) {
    var leaves: [PackedMappings] = []
    leaves.reserveCapacity(Self.leavesAtOnce)
    var end: (leaf: MappingLeaf, slot: Int)?
    let count = walk(from: from, through: last, countMax: countMax, leavesAhead: Self.leavesAtOnce)
    {
      leaf, slots, ahead in
      if leaves.count == Self.leavesAtOnce {
        body(leaves.span)
        leaves.removeAll(keepingCapacity: true)
      }
      leaves.append(leaf.packedMappings(slots, asking: ahead))
      end = (leaf, slots.upperBound &- 1)
    }
    if !leaves.isEmpty { body(leaves.span) }
    return (count, end.map { IOVA($0.leaf.last($0.slot)) })
  }
}
