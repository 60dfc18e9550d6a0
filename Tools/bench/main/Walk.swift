import Addressing
import IOVAMapping

/// The ordered walk of the whole table, in the batches in which a sync takes it.
enum Walk {
  static let name = "ordered walk of 1 Mi mappings"

  static var section: Section {
    Section(
      name: "walk",
      rows: [Row(name: name, peer: "memcpy", target: 2)]
    ) { recorder, effort in
      let workload = Workload(
        mappingCount: effort.size(1 << 20, quick: 1 << 14), seed: 2)
      var table = MappingTable()
      for mapping in workload.mappings {
        _ = try? table.map(mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
      }
      // The same bytes: what the walk hands out.
      let words = table.count * MemoryLayout<Mapping>.stride / 8
      let source = Words(count: words)
      let target = Words(count: words)
      source.fill { UInt64($0) }
      var batch: [Mapping] = []
      batch.reserveCapacity(4096)
      for _ in 0..<effort.repetitions {
        let walked = recorder.time(name) {
          var from: IOVA? = IOVA(0)
          var walked = 0
          while let start = from {
            batch.removeAll(keepingCapacity: true)
            walked += table.copyMappings(
              from: start, through: IOVA(UInt64.max), into: &batch, countMax: 4096)
            from = batch.last?.iova.last.advanced(byBytes: 1)
          }
          return walked
        }
        precondition(walked == table.count, "every mapping was met")
        recorder.time(name, "memcpy") { target.copy(from: source) }
      }
    }
  }
}
