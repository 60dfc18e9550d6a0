public import Addressing

/// The IOVA -> GPA table of one container.
///
/// Terms:
/// - **Mapping**: as it was made. Neighbours are never merged: an unmap must find them again.
/// - **Retired**: unmapped, and kept for a while with the time it went.
/// - **Run**: mapped IOVA without a hole, of however many mappings.
///
/// Shape: mappings in IOVA order in leaves of up to 128, and one directory of the leaves' first
/// IOVAs. Two levels suffice: at 16 Mi mappings the directory is two megabytes, and a leaf splits
/// once in half a hundred inserts. Both are searched from a guess by distance.
///
/// Invariants:
/// 1. Mappings do not overlap, and lie in order within and across leaves.
/// 2. `directory[i]` is the first IOVA of leaf i. No leaf is empty.
/// 3. Every map and unmap applies wholly or not at all.
/// 4. Each map and each unmap that removed something takes one generation.
///
/// States of a mapping:
///
///               map           unmap            as many more went as are kept
///     (none) --------> live --------> retired -------------------------------> forgotten
///                       |  ^
///                       '--' a cut: the parts that stay are as old as they were
public struct MappingTable: ~Copyable, Sendable {
  public let policy: BisectPolicy
  public let pageSize: PageSize
  public let mappingCountMax: Int

  /// Mappings held.
  public internal(set) var count = 0
  /// 4 KiB pages mapped, and mapped writable.
  public internal(set) var mappedPageCount: UInt64 = 0
  public internal(set) var writablePageCount: UInt64 = 0
  public internal(set) var generation = Generation(0)

  var directory: [UInt64] = []
  var leaves: [MappingLeaf] = []
  var retiredRing: RetiredRing

  public init(
    policy: BisectPolicy = .refuse, pageSize: PageSize = .fourKiB,
    mappingCountMax: Int = Limits.mappingCountMax,
    retiredCountMax: Int = Limits.retiredMappingCountMax
  ) {
    self.policy = policy
    self.pageSize = pageSize
    self.mappingCountMax = mappingCountMax
    self.retiredRing = RetiredRing(capacity: retiredCountMax)
  }

  deinit { for leaf in leaves { leaf.deallocate() } }

  /// Bytes of leaves and directory; the retired ring left out.
  public var allocatedByteCount: Int {
    leaves.count * MappingLeaf.byteCount + directory.capacity * 8 + leaves.capacity * 8
  }

  /// How many leaves ahead a walk asks for memory: reading one takes less time than memory does.
  private static let leavesAhead = 3

  /// A mapping's place.
  struct Place: Hashable, Sendable {
    var leaf: Int
    var slot: Int
  }

  /// The leaf whose mappings begin at or before `address`; 0 when all begin later.
  @inline(__always) func leafIndex(for address: UInt64) -> Int {
    let found = KeySearch.countAtOrBelow(address, directory.span)
    return found > 0 ? found &- 1 : 0
  }

  /// How many mappings of leaf `index` begin at or before `address`.
  @inline(__always) func countStarting(atOrBefore address: UInt64, inLeaf index: Int) -> Int {
    let leaf = leaves[index]
    let next =
      index &+ 1 < directory.count ? directory[index &+ 1] : leaf.first(leaf.count &- 1)
    return leaf.countStarting(atOrBefore: address, first: directory[index], next: next)
  }

  /// The first mapping that ends at or after `address`, nil when there is none.
  func place(endingAtOrAfter address: UInt64) -> Place? {
    guard !leaves.isEmpty else { return nil }
    let index = leafIndex(for: address)
    let leaf = leaves[index]
    let after = countStarting(atOrBefore: address, inLeaf: index)
    if after > 0, leaf.last(after &- 1) >= address { return Place(leaf: index, slot: after &- 1) }
    if after < leaf.count { return Place(leaf: index, slot: after) }
    return index &+ 1 < leaves.count ? Place(leaf: index &+ 1, slot: 0) : nil
  }

  func next(_ place: Place) -> Place? {
    if place.slot &+ 1 < leaves[place.leaf].count {
      return Place(leaf: place.leaf, slot: place.slot &+ 1)
    }
    return place.leaf &+ 1 < leaves.count ? Place(leaf: place.leaf &+ 1, slot: 0) : nil
  }

  // MARK: questions

  public func lookup(_ address: IOVA) -> Mapping? {
    guard !leaves.isEmpty else { return nil }
    let index = leafIndex(for: address.rawValue)
    let leaf = leaves[index]
    let after = countStarting(atOrBefore: address.rawValue, inLeaf: index)
    guard after > 0, leaf.last(after &- 1) >= address.rawValue else { return nil }
    return leaf.mapping(after &- 1)
  }

  public func firstMapping(overlapping range: IOVARange) -> Mapping? {
    guard let place = place(endingAtOrAfter: range.first.rawValue),
      leaves[place.leaf].first(place.slot) <= range.last.rawValue
    else { return nil }
    return leaves[place.leaf].mapping(place.slot)
  }

  /// From the first writable mapping that overlaps `range` to the last, both whole; nil when there
  /// is none. Read-only mappings at either end are stepped over.
  public func writableSpan(in range: IOVARange) -> IOVARange? {
    var first = place(endingAtOrAfter: range.first.rawValue)
    while let place = first, !leaves[place.leaf].isWritable(place.slot) { first = next(place) }
    guard let first else { return nil }
    var leaf = leafIndex(for: range.last.rawValue)
    var slot = countStarting(atOrBefore: range.last.rawValue, inLeaf: leaf) &- 1
    while slot < 0 || !leaves[leaf].isWritable(slot) {
      if slot > 0 {
        slot &-= 1
      } else {
        guard leaf > first.leaf else { return nil }
        leaf &-= 1
        slot = leaves[leaf].count &- 1
      }
    }
    let from = leaves[first.leaf].first(first.slot)
    let through = leaves[leaf].last(slot)
    guard from <= range.last.rawValue, from <= through else { return nil }
    return AddressRange(first: IOVA(from), last: IOVA(through))
  }

  /// Appends the mappings that overlap `from` to `last` in IOVA order, unclipped, at most
  /// `countMax` of them. To go on, ask again from the address after the last one's end.
  ///
  /// This is the fast walk of the table: with batches of some thousands and a batch that keeps its
  /// room it costs little more than copying the mappings. `forEach` calls out for each of them.
  @discardableResult
  public func copyMappings(
    from: IOVA, through last: IOVA, into batch: inout [Mapping], countMax: Int
  ) -> Int {
    walk(from: from, through: last, countMax: countMax) { leaf, slots, ahead in
      leaf.append(slots, to: &batch, asking: ahead)
    }
  }

  /// As ``copyMappings(from:through:into:countMax:)``, for what only has to know where bytes are:
  /// mappings that go on in IOVA and in GPA with the same permissions come as one, with the
  /// generation of the first.
  ///
  /// - Returns: how many mappings were read, at most `countMax`; fewer say that there are no more.
  @discardableResult
  public func copyRuns(
    from: IOVA, through last: IOVA, into batch: inout [Mapping], countMax: Int
  ) -> Int {
    walk(from: from, through: last, countMax: countMax) { leaf, slots, ahead in
      leaf.appendRuns(slots, to: &batch, asking: ahead)
    }
  }

  /// As ``copyMappings(from:through:into:countMax:)``, without the mappings that may not be written
  /// or under which nothing is dirty in an answer; some of those may come all the same.
  ///
  /// - Parameters:
  ///   - words: the answer, a bit for each page of `window`.
  /// - Returns: how many mappings were read, and the last address of the last of them.
  public func copyDirty(
    from: IOVA, through last: IOVA, into batch: inout [Mapping], countMax: Int,
    under words: Span<UInt64>, window: IOVARange, pageSize: PageSize
  ) -> (count: Int, last: IOVA?) {
    var end: IOVA?
    let count = walk(from: from, through: last, countMax: countMax) { leaf, slots, ahead in
      leaf.appendDirty(slots, to: &batch, asking: ahead, words, window, pageSize)
      if let slot = slots.last { end = IOVA(leaf.last(slot)) }
    }
    return (count, end)
  }

  /// The extents of the mappings that overlap `range`, in IOVA order, unclipped.
  public func forEachExtent(in range: IOVARange = .wholeSpace, _ body: (MappingExtent) -> Void) {
    var open: MappingExtent?
    walk(from: range.first, through: range.last, countMax: count) { leaf, slots, ahead in
      leaf.extend(&open, slots, asking: ahead, body)
    }
    if let open { body(open) }
  }

  @inline(__always) @discardableResult func walk(
    from: IOVA, through last: IOVA, countMax: Int, leavesAhead: Int = Self.leavesAhead,
    _ take: (_ leaf: MappingLeaf, _ slots: Range<Int>, _ ahead: MappingLeaf) -> Void
  ) -> Int {
    guard let start = place(endingAtOrAfter: from.rawValue) else { return 0 }
    var index = start.leaf
    var slot = start.slot
    var copied = 0
    while index < leaves.count, copied < countMax, directory[index] <= last.rawValue {
      let leaf = leaves[index]
      var end = leaf.count
      // Where the next leaf begins in the range, this one lies in it: nothing of it is read.
      let next = index &+ 1 < directory.count ? directory[index &+ 1] : .max
      if next > last.rawValue {
        end = countStarting(atOrBefore: last.rawValue, inLeaf: index)
      }
      guard slot < end else { break }
      end = slot &+ min(end &- slot, countMax &- copied)
      let ahead = leaves[min(index &+ leavesAhead, leaves.count &- 1)]
      ahead.askForBeginning()
      take(leaf, slot..<end, ahead)
      copied &+= end &- slot
      guard end == leaf.count else { break }
      index &+= 1
      slot = 0
    }
    return copied
  }

  public func forEach(in range: IOVARange = .wholeSpace, _ body: (Mapping) -> Void) {
    guard let start = place(endingAtOrAfter: range.first.rawValue) else { return }
    var slot = start.slot
    for index in start.leaf..<leaves.count {
      let leaf = leaves[index]
      while slot < leaf.count {
        if leaf.first(slot) > range.last.rawValue { return }
        body(leaf.mapping(slot))
        slot &+= 1
      }
      slot = 0
    }
  }

  /// Mapped IOVA inside `range` as runs; adjacent mappings make one run, whatever they map to.
  public func forEachRun(
    in range: IOVARange = .wholeSpace, writableOnly: Bool = false, _ body: (IOVARange) -> Void
  ) {
    var run: IOVARange?
    forEachExtent(in: range) { extent in
      guard !writableOnly || extent.isWritable, let part = extent.iova.intersection(range) else {
        return
      }
      if let open = run, open.isFollowed(by: part) {
        run = AddressRange(first: open.first, last: part.last)
      } else {
        if let open = run { body(open) }
        run = part
      }
    }
    if let open = run { body(open) }
  }

  /// Every mapping that reaches a page of `gpa`: a scan of the whole table, for people's questions.
  public func mappings(to gpa: GPARange) -> [Mapping] {
    var found: [Mapping] = []
    forEach { if $0.gpa.overlaps(gpa) { found.append($0) } }
    return found
  }
}
