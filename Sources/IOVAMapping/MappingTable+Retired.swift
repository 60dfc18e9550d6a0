public import Addressing

extension MappingTable {
  public var retiredCount: Int { retiredRing.count }

  /// The latest retirement that is no longer remembered; generation 0 while all are.
  public var forgottenThrough: Generation { retiredRing.evicted }

  /// Calls `body`, oldest first, with every mapping that went away after `generation` and overlaps
  /// `range`.
  /// - Returns: false when some that went away after `generation` are forgotten: the caller must
  ///   assume the worst.
  public func retired(
    since generation: Generation, overlapping range: IOVARange, _ body: (RetiredMapping) -> Void
  ) -> Bool {
    var position = retiredRing.position(after: generation)
    while position < retiredRing.count {
      let retired = retiredRing[position]
      if retired.mapping.iova.overlaps(range) { body(retired) }
      position &+= 1
    }
    return retiredRing.evicted <= generation
  }

  /// The mapping that held `address` just after `generation`, if it is still remembered.
  public func lookup(_ address: IOVA, at generation: Generation) -> Mapping? {
    if let live = lookup(address), live.generation <= generation { return live }
    var position = retiredRing.position(after: generation)
    while position < retiredRing.count {
      let retired = retiredRing[position]
      if retired.mapping.iova.contains(address), retired.mapping.generation <= generation {
        return retired.mapping
      }
      position &+= 1
    }
    return nil
  }
}
