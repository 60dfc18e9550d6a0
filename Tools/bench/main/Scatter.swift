import Addressing
import CBenchPeers
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

  private static var large: Section {
    func name(_ shift: String, _ order: String, _ dirt: String) -> String {
      "scatter, 1 TiB of 2 MiB \(shift), \(order), 25 % of \(dirt) dirty"
    }
    let kinds = [("aligned", 0.8), ("shifted", 1.5)]
    let orders = ["in order", "shuffled"]
    // What an IOMMU reports with one dirty bit for an entry of 2 MiB, and what one does with a bit
    // for each 4 KiB.
    let dirts = [("mappings", 8), ("pages", 0)]
    let rows = dirts.flatMap { dirt in
      orders.flatMap { order in
        kinds.map { Row(name: name($0.0, order, dirt.0), peer: "memcpy of 32 MiB", target: $0.1) }
      }
    }
    return Section(name: "scatter", rows: rows) { recorder, effort in
      let count = effort.size(512 << 10, quick: 512)
      let source = Words(count: count * 8)
      let copy = Words(count: count * 8)
      source.fill { UInt64($0) }
      for (kind, order, dirt) in kinds.flatMap({ kind in
        orders.flatMap { order in dirts.map { (kind.0, order, $0) } }
      }) {
        let mappings = largeMappings(
          count: count, shiftPages: kind == "aligned" ? 0 : 37, shuffled: order == "shuffled")
        let trial = try ScatterTrial(
          mappings: mappings, windowPages: count * 512, targetPages: count * 512 + 512,
          percent: 25, grain: dirt.1)
        for _ in 0..<effort.repetitions {
          try trial.run(recorder, name(kind, order, dirt.0), peer: nil)
          recorder.time(name(kind, order, dirt.0), "memcpy of 32 MiB") { copy.copy(from: source) }
        }
      }
    }
  }

  private static func largeMappings(count: Int, shiftPages: UInt64, shuffled: Bool) -> [Mapping] {
    var random = SplitMix(state: 9)
    var chunks = Array(0..<UInt64(count))
    if shuffled { chunks.shuffle(using: &random) }
    return chunks.enumerated().map { index, chunk in
      let first = UInt64(index) << 21
      return Mapping(
        iova: AddressRange(first: IOVA(first), last: IOVA(first + (2 << 20) - 1)),
        gpaFirst: GPA(chunk << 21 + shiftPages << 12), permissions: .readWrite)
    }
  }
}
