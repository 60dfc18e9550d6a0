import Addressing
import CBenchPeers
import IOVAMapping
import PageBitmap

/// Scatter of an answered query through its mappings into a guest of 1 TiB.
enum Scatter {
  static var sections: [Section] {
    [onePage(title: "side by side in IOVA", spread: 1)]
      + [onePage(title: "strewn in IOVA", spread: 64)]
      + [large]
  }

  // MARK: one page each

  /// - Parameter spread: a mapping in so many pages of IOVA. The GPAs are strewn in any case.
  private static func onePage(title: String, spread: Int) -> Section {
    func name(_ percent: Int) -> String {
      "scatter, 1 Mi of 4 KiB \(title), \(percent) % dirty"
    }
    let rows = [(1, 0.4), (25, 0.65)].map {
      Row(name: name($0), peer: "per-page C loop", target: $1)
    }
    return Section(name: "scatter", rows: rows) { recorder, effort in
      let count = effort.size(1 << 20, quick: 1 << 14)
      let mappings = strewnMappings(count: count, spread: spread)
      for percent in [1, 25] {
        let trial = try ScatterTrial(
          mappings: mappings, windowPages: count * spread, targetPages: 1 << 28, percent: percent)
        for _ in 0..<effort.repetitions {
          try trial.run(recorder, name(percent), peer: "per-page C loop")
        }
      }
    }
  }

  private static func strewnMappings(count: Int, spread: Int) -> [Mapping] {
    var random = SplitMix(state: 7)
    let pages = Workload.distinctPages(count, of: count * spread, &random)
    return pages.map { page in
      Mapping(
        iova: AddressRange(first: IOVA(page << 12), last: IOVA(page << 12 | 0xfff)),
        gpaFirst: GPA(random.below(1 << 28) << 12), permissions: .readWrite)
    }
  }

  // MARK: 2 MiB each

  private static let memcpy = "memcpy of 32 MiB"
  /// What the memory can do with mappings that lead anywhere.
  private static let bytesAlone = "its bytes, moved by a plain loop"

  private static var large: Section {
    func name(_ shift: String, _ order: String, _ dirt: ScatterDirt) -> String {
      "scatter, 1 TiB of 2 MiB \(shift), \(order), \(dirt.title)"
    }
    let kinds = [("aligned", 0, 0.8), ("shifted", 37, 1.5)] as [(String, UInt64, Double)]
    let orders = ["in order", "shuffled"]
    let rows = ScatterDirt.allCases.flatMap { dirt in
      orders.flatMap { order in
        kinds.map { Row(name: name($0.0, order, dirt), peer: memcpy, target: $0.2) }
      }
    }
    let bare = ScatterDirt.allCases.map {
      Row(name: name("aligned", "shuffled", $0), peer: bytesAlone, target: 1.5)
    }
    return Section(name: "scatter", rows: rows + bare) { recorder, effort in
      let count = effort.size(512 << 10, quick: 512)
      let source = Words(count: count * 8)
      let copy = Words(count: count * 8)
      source.fill { UInt64($0) }
      for (kind, order) in kinds.flatMap({ kind in orders.map { (kind, $0) } }) {
        let mappings = try walkedMappings(
          count: count, shiftPages: kind.1, shuffled: order == "shuffled")
        for dirt in ScatterDirt.allCases {
          let trial = try ScatterTrial(
            mappings: mappings, windowPages: count * 512, targetPages: count * 512 + 512, dirt.fill)
          for _ in 0..<effort.repetitions {
            try trial.run(recorder, name(kind.0, order, dirt), peer: nil)
            recorder.time(name(kind.0, order, dirt), memcpy) { copy.copy(from: source) }
            if kind.1 == 0, order == "shuffled" {
              recorder.time(name(kind.0, order, dirt), bytesAlone) { trial.moveLines() }
            }
          }
        }
      }
    }
  }

  /// As the walk of the table hands them to a scatter: what goes on in IOVA and GPA as one, so many
  /// at a time.
  private static func walkedMappings(
    count: Int, shiftPages: UInt64, shuffled: Bool
  ) throws -> [Mapping] {
    var random = SplitMix(state: 9)
    var chunks = Array(0..<UInt64(count))
    if shuffled { chunks.shuffle(using: &random) }
    var table = MappingTable()
    for (index, chunk) in chunks.enumerated() {
      let first = UInt64(index) << 21
      try table.map(
        AddressRange(first: IOVA(first), last: IOVA(first + (2 << 20) - 1)),
        to: GPA(chunk << 21 + shiftPages << 12), permissions: .readWrite)
    }
    var walked: [Mapping] = []
    var from: IOVA? = IOVA(0)
    while let start = from {
      var batch: [Mapping] = []
      table.copyRuns(from: start, through: IOVA(UInt64.max), into: &batch, countMax: 4096)
      walked += batch
      from = batch.last?.iova.last.advanced(byBytes: 1)
    }
    return walked
  }
}
