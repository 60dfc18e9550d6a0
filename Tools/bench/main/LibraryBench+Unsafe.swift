#if canImport(SmudgeABI)
  import Addressing
  import CBenchPeers
  import CSmudge
  import DirtyTracker

  /// The C library, called as a C program calls it.
  ///
  /// Unsafe because that is C. Sound because every pointer handed over is to what outlives the
  /// call, and the query fills as many words as it is given.
  enum LibraryBench {
    private static let mapName = "libsmudge: map + unmap, the VMM maps, 64 Ki scattered"
    private static let inSwift = "the same in Swift"
    private static let dirtName = "libsmudge: map + unmap with a bitmap of one page"
    private static let qemu = "GTree and a bitmap, as in QEMU"
    private static let syncName =
      "libsmudge: sync of 1 TiB in 2 MiB, a query that costs nothing, a quarter dirty"
    private static let leaves = "a query a mapping, a bit a time"
    private static let harvestName = "libsmudge: harvest by runs of 1 TiB, 1 % scattered"
    private static let copy = "memcpy of 32 MiB"

    static var sections: [Section] { [mapSection, dirtSection, syncSection, harvestSection] }

    private static var mapSection: Section {
      Section(name: "libsmudge", rows: [Row(name: mapName, peer: inSwift, target: 1.2)]) {
        recorder, effort in
        let workload = Workload(mappingCount: effort.size(64 << 10, quick: 4 << 10), seed: 11)
        let library = unsafe Library(byteCount: 1 << 36, query: nil)
        let tracked = try Tracked(ownership: .vmm)
        library.mapAndUnmap(workload, hasBitmap: false)
        try tracked.mapAndUnmap(workload)
        for _ in 0..<effort.repetitions {
          recorder.time(mapName) { library.mapAndUnmap(workload, hasBitmap: false) }
          try recorder.time(mapName, inSwift) { try tracked.mapAndUnmap(workload) }
        }
      }
    }

    private static var dirtSection: Section {
      Section(name: "libsmudge", rows: [Row(name: dirtName, peer: qemu, target: 0.5)]) {
        recorder, effort in
        let workload = Workload(mappingCount: effort.size(64 << 10, quick: 4 << 10), seed: 11)
        let library = unsafe Library(byteCount: 1 << 36, query: nothingDirty)
        library.startLogging()
        guard let table = PeerTable(PeerTable.names[1]) else {
          return recorder.skip(qemu, because: "GLib is not installed")
        }
        let mappings = workload.mappings.map(bench_mapping.init)
        let removals = workload.removals.map(bench_mapping.init)
        let bitmap = Words(count: 1 << 18)
        func inQEMUsWay() {
          _ = table.insert(mappings)
          _ = table.lookup(removals.map(\.iova_first))
          unsafe bench_set_pages(bitmap.words, removals, removals.count)
          _ = table.remove(removals)
        }
        library.mapAndUnmap(workload, hasBitmap: true)
        inQEMUsWay()
        for _ in 0..<effort.repetitions {
          recorder.time(dirtName) { library.mapAndUnmap(workload, hasBitmap: true) }
          recorder.time(dirtName, qemu) { inQEMUsWay() }
        }
      }
    }

    private static var syncSection: Section {
      Section(name: "libsmudge", rows: [Row(name: syncName, peer: leaves, target: 0.1)]) {
        recorder, effort in
        let count = effort.size(1 << 19, quick: 1 << 10)
        let library = unsafe Library(byteCount: UInt64(count) << 21, query: bench_quarter_query)
        let mappings = (0..<UInt64(count)).map { index in
          bench_mapping(
            iova_first: index << 21, iova_last: index << 21 | 0x1f_ffff, gpa_first: index << 21,
            permissions: 3)
        }
        library.map(mappings)
        library.startLogging()
        let bitmap = Words(count: count * 8)
        // Windows grow until a query takes as long as it should.
        for _ in 0..<4 { library.sync() }
        for _ in 0..<effort.repetitions {
          recorder.time(syncName) { library.sync() }
          let set = recorder.time(syncName, leaves) {
            unsafe bench_sync_by_leaf(bitmap.words, mappings, mappings.count)
          }
          precondition(set == UInt64(count) * 128, "a quarter of the pages")
        }
      }
    }

    private static var harvestSection: Section {
      Section(name: "libsmudge", rows: [Row(name: harvestName, peer: copy, target: 1.5)]) {
        recorder, effort in
        let pageCount = UInt64(effort.size(1 << 28, quick: 1 << 20))
        let library = unsafe Library(byteCount: pageCount << 12, query: nil)
        let source = Words(count: Int(pageCount / 64))
        let target = Words(count: Int(pageCount / 64))
        source.fill { UInt64($0) }
        var random = SplitMix(state: 5)
        for _ in 0..<effort.repetitions {
          for _ in 0..<(pageCount / 100) { library.vcpuWrote(random.below(pageCount)) }
          let dirty = library.dirtyPageCount
          let found = recorder.time(harvestName) { library.harvest() }
          precondition(found == dirty << 12, "what was dirty was harvested")
          recorder.time(harvestName, copy) { target.copy(from: source) }
        }
      }
    }

    private static let nothingDirty: smudge_query = { _, _, _, _, _ in 0 }
  }

  /// A tracker with one region, one container of the VMM and one reader.
  @safe private final class Library {
    private var tracker: OpaquePointer?
    private var container: OpaquePointer?
    private var reader: OpaquePointer?

    @unsafe init(byteCount: UInt64, query: smudge_query?) {
      check(unsafe smudge_tracker_create(nil, &tracker))
      unsafe "ram".withCString { name in
        var ram = unsafe smudge_ram()
        unsafe ram.size = UInt32(MemoryLayout<smudge_ram>.size)
        unsafe ram.byte_count = byteCount
        unsafe ram.name = name
        check(unsafe smudge_region_add(tracker, &ram))
        var params = unsafe smudge_container_params()
        unsafe params.size = UInt32(MemoryLayout<smudge_container_params>.size)
        unsafe params.name = name
        unsafe params.query = query
        unsafe params.query_flags = UInt32(SMUDGE_QUERY_CROSSES_HOLES)
        check(unsafe smudge_container_add(tracker, &params, &container))
        check(unsafe smudge_reader_add(tracker, name, 0, &reader))
      }
    }

    deinit { check(unsafe smudge_tracker_destroy(tracker)) }

    private func check(_ result: Int32) {
      precondition(result >= 0, unsafe String(cString: smudge_last_error()))
    }

    func startLogging() { check(unsafe smudge_log_start(tracker, nil)) }
    func sync() { check(unsafe smudge_log_sync(tracker, 0, nil)) }
    func vcpuWrote(_ page: UInt64) { check(unsafe smudge_vcpu_wrote(tracker, page << 12, 1)) }

    var dirtyPageCount: UInt64 {
      var count: UInt64 = 0
      check(unsafe smudge_reader_dirty_page_count(reader, &count))
      return count
    }

    func map(_ mappings: [bench_mapping]) {
      for mapping in mappings {
        check(
          unsafe smudge_map(
            container, mapping.iova_first, mapping.gpa_first,
            mapping.iova_last - mapping.iova_first + 1, 7))
      }
    }

    func mapAndUnmap(_ workload: Workload, hasBitmap: Bool) {
      for mapping in workload.mappings {
        check(
          unsafe smudge_map(
            container, mapping.iova.first.rawValue, mapping.gpaFirst.rawValue, 4096, 7))
      }
      var word: UInt64 = 1
      for mapping in workload.removals {
        let iova = mapping.iova.first.rawValue
        check(
          hasBitmap
            ? unsafe smudge_unmap(container, iova, 4096, &word)
            : unsafe smudge_unmap(container, iova, 4096, nil))
      }
    }

    /// - Returns: bytes.
    func harvest() -> UInt64 {
      var sum: UInt64 = 0
      while unsafe smudge_harvest_runs(reader, .max, bench_count_run, &sum, nil) > 0 {}
      return sum
    }
  }
#endif
