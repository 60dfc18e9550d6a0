import Addressing
import CBenchPeers
import CBitmapKernels

/// A table of the peers'.
///
/// Unsafe because the peers take addresses. Sound because each address comes from an array that
/// outlives the call, with its count, and the table is made and destroyed by this value alone.
@safe final class PeerTable {
  let name: String
  private let functions: bench_table
  private let table: UnsafeMutableRawPointer

  static let names = ["absl::btree_map", "GTree as in QEMU"]

  /// Nil when the package of the peer was not installed at build time.
  init?(_ name: String) {
    self.name = name
    functions = name == Self.names[0] ? bench_absl_btree : bench_glib_tree
    guard functions.available != 0 else { return nil }
    unsafe table = functions.make()
  }

  deinit { unsafe functions.destroy(table) }

  func insert(_ mappings: [bench_mapping]) -> UInt64 {
    unsafe mappings.withUnsafeBufferPointer { all in
      unsafe functions.insert(table, all.baseAddress!, all.count)
    }
  }

  func lookup(_ addresses: [UInt64]) -> UInt64 {
    unsafe addresses.withUnsafeBufferPointer { all in
      unsafe functions.lookup(table, all.baseAddress!, all.count)
    }
  }

  func remove(_ mappings: [bench_mapping]) -> UInt64 {
    unsafe mappings.withUnsafeBufferPointer { all in
      unsafe functions.remove(table, all.baseAddress!, all.count)
    }
  }
}

extension bench_mapping {
  init(_ mapping: Mapping) {
    self.init(
      iova_first: mapping.iova.first.rawValue, iova_last: mapping.iova.last.rawValue,
      gpa_first: mapping.gpaFirst.rawValue, permissions: UInt32(mapping.permissions.rawValue))
  }
}

/// Memory for memcpy and for the plain loops, had the way bitmaps have theirs: large pages on both
/// sides of a comparison or on neither.
///
/// Unsafe because it is raw memory. Sound because the value owns it, every use is bounded by its
/// size, and threads that share it take turns.
@safe final class Words: @unchecked Sendable {
  let count: Int
  private let base: UnsafeMutablePointer<UInt64>

  init(count: Int) {
    self.count = count
    guard let memory = unsafe smudge_pages_allocate(count * 8) else {
      fatalError("no memory for \(count) words")
    }
    unsafe base = memory.bindMemory(to: UInt64.self, capacity: count)
    unsafe base.update(repeating: 0, count: count)
  }

  deinit { unsafe smudge_pages_free(base, count * 8) }

  var bytes: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(base) }
  var words: UnsafeMutablePointer<UInt64> { unsafe base }

  func fill(_ word: (Int) -> UInt64) {
    for index in 0..<count { unsafe base[index] = word(index) }
  }

  subscript(index: Int) -> UInt64 {
    precondition(index >= 0 && index < count, "the word lies outside")
    return unsafe base[index]
  }

  func clear() { unsafe base.update(repeating: 0, count: count) }

  func copy(from source: Words) {
    precondition(source.count == count, "memcpy of equal sizes")
    unsafe bench_copy(base, source.base, count * 8)
  }

  func with<R>(_ body: (Span<UInt64>) -> R) -> R {
    unsafe body(UnsafeBufferPointer(start: base, count: count).span)
  }

  /// The bytes of a scatter alone. The caller has checked that every mapping is of 2 MiB, aligned,
  /// and lies inside both bitmaps.
  func moveLines(from source: Words, through mappings: [bench_mapping]) {
    unsafe mappings.withUnsafeBufferPointer { all in
      unsafe bench_move_lines(base, source.base, all.baseAddress!, all.count)
    }
  }

  /// The plain scatter into these words, whose first page is GPA 0. The caller has checked that
  /// every mapping lies inside both bitmaps.
  func scatterPerPage(from source: Words, window: IOVA, through mappings: [bench_mapping]) -> UInt64
  {
    unsafe mappings.withUnsafeBufferPointer { all in
      unsafe bench_scatter_per_page(
        base, 0, source.base, window.rawValue, all.baseAddress!, all.count)
    }
  }
}

/// Bytes the C heap has handed out.
func heapByteCount() -> Int { bench_heap_byte_count() }
