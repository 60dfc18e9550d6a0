import Addressing
import CBitmapKernels

/// Up to 128 mappings in IOVA order, 24 bytes each, in three columns of one block: what is
/// searched, and the two words of what is found. After them: how many there are, and a note.
///
/// A mapping is packed into the bits that page alignment leaves free:
///
///     key    64  IOVA first, above; pages-1 bits 32...39 in bits 2...9; permissions in bits 0...1
///     value  64  GPA first, above; generation bits 32...43 in bits 0...11
///     extent 64  pages-1, low 32 bits, below; generation, low 32 bits, above
///
/// The note says whether the mappings are even: side by side, of one size and with the same
/// permissions. Who knows that need not read keys and extents, two thirds of the leaf. It is made
/// when it is asked for, and forgotten with each change.
///
/// Keys of one table differ in their page, so they sort by IOVA whatever the low bits say.
///
/// Unsafe because it is a raw block: sound because only `MappingTable` makes, moves and frees
/// leaves, which it owns alone and sends as a whole, and every index is below `count`, which is at
/// most `capacity`.
@safe struct MappingLeaf: @unchecked Sendable {
  static let capacity = Int(SMUDGE_LEAF_CAPACITY)
  static let byteCount = capacity * 24 + 16

  private let base: UnsafeMutableRawPointer

  init() {
    // Eight of a column are a line of the cache, not parts of two.
    unsafe base = .allocate(byteCount: Self.byteCount, alignment: 64)
    count = 0
  }

  func deallocate() { unsafe base.deallocate() }

  private var keys: UnsafeMutablePointer<UInt64> {
    unsafe base.assumingMemoryBound(to: UInt64.self)
  }
  private var values: UnsafeMutablePointer<UInt64> { unsafe keys + Self.capacity }
  private var extents: UnsafeMutablePointer<UInt64> { unsafe keys + Self.capacity &* 2 }
  /// Then the note.
  private var counts: UnsafeMutablePointer<UInt64> { unsafe keys + Self.capacity &* 3 }

  /// Every change of it forgets the note.
  var count: Int {
    get { unsafe Int(truncatingIfNeeded: counts[0]) }
    nonmutating set {
      unsafe counts[0] = UInt64(truncatingIfNeeded: newValue)
      unsafe counts[1] = 0
    }
  }

  private func forgetNote() { unsafe counts[1] = 0 }

  /// 4 KiB pages of each mapping when all are even; 0 when they are not.
  ///
  /// Sound also when several threads read a table: each would note the same.
  private var evenPageCount: UInt64 {
    let note = unsafe smudge_note_load(counts + 1)
    if note != 0 { return note &>> 1 }
    var packed = unsafe smudge_packed(
      keys: keys, count: counts[0], even_page_count: 0, ahead: keys)
    let found = unsafe smudge_packed_even_page_count(&packed)
    unsafe smudge_note_store(counts + 1, found &<< 1 | 1)
    return found
  }

  /// All mappings are adjacent, of one size and with the same permissions.
  var isEven: Bool { evenPageCount != 0 }

  @inline(__always) func first(_ index: Int) -> UInt64 { unsafe keys[index] & ~0xfff }

  @inline(__always) func iova(_ index: Int) -> IOVARange {
    AddressRange(first: IOVA(first(index)), last: IOVA(last(index)))
  }

  @inline(__always) private func pagesLess1(_ index: Int) -> UInt64 {
    unsafe extents[index] & 0xffff_ffff | (keys[index] & 0x3fc) &<< 30
  }

  /// The last IOVA of the mapping; it fits, as was checked when it was stored.
  @inline(__always) func last(_ index: Int) -> UInt64 {
    first(index) &+ (pagesLess1(index) &<< 12 | 0xfff)
  }

  @inline(__always) func isWritable(_ index: Int) -> Bool {
    unsafe keys[index] & UInt64(Permissions.write.rawValue) != 0
  }

  @inline(__always) func generation(_ index: Int) -> UInt64 {
    unsafe extents[index] &>> 32 | (values[index] & 0xfff) &<< 32
  }

  @inline(__always) func mapping(_ index: Int) -> Mapping {
    Mapping(
      checkedIOVA: AddressRange(first: IOVA(first(index)), last: IOVA(last(index))),
      gpaFirst: GPA(unsafe values[index] & ~0xfff),
      permissions: Permissions(rawValue: UInt8(unsafe keys[index] & 3)),
      generation: Generation(generation(index)))
  }

  /// Asks for what is read of any leaf: how many mappings there are, and the first key.
  @inline(__always) func askForBeginning() {
    unsafe smudge_bitmap_prefetch(counts)
    unsafe smudge_bitmap_prefetch(keys)
  }

  /// Appends mappings to a batch: the walk of a sync, so its room is made once and not looked at
  /// again for each.
  ///
  /// - Parameter ahead: a leaf that will be walked soon. It lies anywhere in memory, so it is asked
  ///   for while this one is unpacked.
  /// - Precondition: `slots` lies in `0..<count`.
  func append(_ slots: Range<Int>, to batch: inout [Mapping], asking ahead: MappingLeaf) {
    batch.append(addingCapacity: slots.count) { output in
      unsafe output.withUnsafeMutableBufferPointer { room, initialized in
        guard let base = room.baseAddress else { return }
        var target = unsafe base + initialized
        for slot in slots {
          unsafe smudge_bitmap_prefetch(ahead.keys + slot &* 3)
          unsafe target.initialize(to: mapping(slot))
          unsafe target += 1
        }
        initialized &+= slots.count
      }
    }
  }

  /// Appends mappings as runs: what goes on in IOVA and in GPA with the same permissions becomes
  /// one with the last of the batch, which keeps its generation.
  ///
  /// - Parameter ahead: as of ``append(_:to:asking:)``.
  /// - Precondition: `slots` lies in `0..<count`, after the batch's mappings.
  func appendRuns(_ slots: Range<Int>, to batch: inout [Mapping], asking ahead: MappingLeaf) {
    let open = batch.popLast()
    batch.append(addingCapacity: slots.count &+ 1) { output in
      if let open { output.append(open) }
      unsafe output.withUnsafeMutableBufferPointer { room, initialized in
        guard let base = room.baseAddress else { return }
        var packed = unsafe packed(slots, ahead)
        // Sound: `Mapping` and `smudge_bitmap_mapping` have the same layout, which a test holds,
        // and there is room for each slot after the open one.
        initialized = unsafe base.withMemoryRebound(
          to: smudge_bitmap_mapping.self, capacity: slots.count &+ 1
        ) { unsafe smudge_packed_runs(&packed, initialized, $0) }
      }
    }
  }

  /// The slots where they lie, for a call in which the table does not change.
  ///
  /// - Precondition: `slots` lies in `0..<count`.
  @inline(__always) func packedMappings(_ slots: Range<Int>, asking ahead: MappingLeaf)
    -> PackedMappings
  {
    unsafe PackedMappings(
      keys: keys + slots.lowerBound, count: UInt64(slots.count), evenPageCount: evenPageCount,
      ahead: ahead.keys)
  }

  @unsafe private func packed(_ slots: Range<Int>, _ ahead: MappingLeaf) -> smudge_packed {
    let packed = packedMappings(slots, asking: ahead)
    return unsafe smudge_packed(
      keys: packed.keys, count: packed.count, even_page_count: packed.evenPageCount,
      ahead: packed.ahead)
  }

  /// Appends the writable mappings under which a page of an answer may be dirty: all that have one,
  /// and some that have none.
  ///
  /// - Parameter ahead: as of ``append(_:to:asking:)``.
  /// - Precondition: `slots` lies in `0..<count`; `words` has a bit for each page of the window.
  func appendDirty(
    _ slots: Range<Int>, to batch: inout [Mapping], asking ahead: MappingLeaf,
    _ words: Span<UInt64>, _ window: IOVARange, _ pageSize: PageSize
  ) {
    precondition(
      window.pageCount(pageSize) <= UInt64(words.count) &* 64, "a bit for each page of the window")
    batch.append(addingCapacity: slots.count) { output in
      unsafe output.withUnsafeMutableBufferPointer { room, initialized in
        guard let base = room.baseAddress else { return }
        unsafe words.withUnsafeBufferPointer { words in
          guard let bits = words.baseAddress else { return }
          var packed = unsafe packed(slots, ahead)
          var answer = unsafe smudge_answer(
            words: bits, window_first: window.first.rawValue, window_last: window.last.rawValue,
            page_shift: pageSize.shift, write_permission: Permissions.write.rawValue)
          // Sound: `Mapping` and `smudge_bitmap_mapping` have the same layout, which a test holds,
          // and there is room for each slot.
          let found = unsafe (base + initialized).withMemoryRebound(
            to: smudge_bitmap_mapping.self, capacity: slots.count
          ) { unsafe smudge_packed_dirty(&packed, &answer, $0) }
          initialized &+= found
        }
      }
    }
  }

  /// Goes on with `open` through mappings that lie side by side and all may be written or none;
  /// what it does not go on with is handed out, and the last one stays open.
  ///
  /// - Parameter ahead: as of ``append(_:to:asking:)``.
  /// - Precondition: `slots` lies in `0..<count`, after `open`.
  @inline(__always) func extend(
    _ open: inout MappingExtent?, _ slots: Range<Int>, asking ahead: MappingLeaf,
    _ body: (MappingExtent) -> Void
  ) {
    for slot in slots {
      unsafe smudge_bitmap_prefetch(ahead.keys + slot &* 3)
      let isWritable = isWritable(slot)
      let first = first(slot)
      let last = IOVA(last(slot))
      if let extent = open, extent.isWritable == isWritable,
        extent.iova.last.rawValue &+ 1 == first
      {
        open = MappingExtent(
          iova: AddressRange(first: extent.iova.first, last: last), isWritable: isWritable)
        continue
      }
      if let extent = open { body(extent) }
      open = MappingExtent(
        iova: AddressRange(first: IOVA(first), last: last), isWritable: isWritable)
    }
  }

  /// How many mappings begin at or before `address`.
  ///
  /// - Parameter next: about where the next leaf begins; only the speed depends on it.
  @inline(__always) func countStarting(atOrBefore address: UInt64, first: UInt64, next: UInt64)
    -> Int
  {
    let count = count
    let guess = KeySearch.guess(address, count, first, next)
    // What is found there is wanted next.
    unsafe smudge_bitmap_prefetch(values + guess)
    unsafe smudge_bitmap_prefetch(extents + guess)
    return unsafe KeySearch.countAtOrBelow(address | 0xfff, keys, count, from: guess)
  }

  private func store(_ mapping: Mapping, at index: Int) {
    let pagesLess1 = mapping.iova.lastOffset &>> 12
    let generation = mapping.generation.rawValue
    unsafe keys[index] =
      mapping.iova.first.rawValue | (pagesLess1 &>> 32) &<< 2
      | UInt64(mapping.permissions.rawValue)
    unsafe values[index] = mapping.gpaFirst.rawValue | (generation &>> 32) & 0xfff
    unsafe extents[index] = pagesLess1 & 0xffff_ffff | generation &<< 32
  }

  /// - Precondition: `count < capacity`.
  func insert(_ mapping: Mapping, at index: Int) {
    let moved = count &- index
    unsafe Self.move(from: self, index, to: self, index &+ 1, moved)
    store(mapping, at: index)
    count = count &+ 1
  }

  /// Puts a part of the mapping at `index` in its place.
  ///
  /// - Precondition: `index < count`.
  func replace(_ index: Int, with part: Mapping) {
    store(part, at: index)
    forgetNote()
  }

  func remove(_ range: Range<Int>) {
    unsafe Self.move(
      from: self, range.upperBound, to: self, range.lowerBound, count &- range.upperBound)
    count = count &- range.count
  }

  /// Moves the last `moved` mappings of this leaf to the front of `next`.
  func moveTail(_ moved: Int, to next: MappingLeaf) {
    unsafe Self.move(from: next, 0, to: next, moved, next.count)
    unsafe Self.move(from: self, count &- moved, to: next, 0, moved)
    next.count = next.count &+ moved
    count = count &- moved
  }

  /// Moves the first `moved` mappings of this leaf to the end of `previous`.
  func moveHead(_ moved: Int, to previous: MappingLeaf) {
    unsafe Self.move(from: self, 0, to: previous, previous.count, moved)
    previous.count = previous.count &+ moved
    remove(0..<moved)
  }

  @unsafe private static func move(
    from source: MappingLeaf, _ from: Int, to target: MappingLeaf, _ to: Int, _ moved: Int
  ) {
    guard moved > 0 else { return }
    unsafe (target.keys + to).update(from: source.keys + from, count: moved)
    unsafe (target.values + to).update(from: source.values + from, count: moved)
    unsafe (target.extents + to).update(from: source.extents + from, count: moved)
  }
}
