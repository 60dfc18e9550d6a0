import Addressing
import CBenchPeers
import IOVAMapping

/// Insert, lookup and remove of scattered one-page mappings, each in random order.
enum Table {
  static func section(mappingCount: Int) -> Section {
    let size = mappingCount == 1 << 20 ? "1 Mi" : "\(mappingCount >> 10) Ki"
    let title = "table, \(size) scattered"
    let targets = mappingCount == 1 << 20 ? [0.6, 0.7, 0.6] : [1, 1, 1]
    let steps = ["insert", "lookup", "remove"]
    var rows = zip(steps, targets).map {
      Row(name: "\(title): \($0)", peer: PeerTable.names[0], target: $1)
    }
    rows += steps.map { Row(name: "\(title): \($0)", peer: PeerTable.names[1], target: 0.3) }
    let memory = "\(title): memory per mapping"
    rows.append(Row(name: memory, peer: "bytes", target: 32, isPlainNumber: true))
    return Section(name: "table", rows: rows) { recorder, effort in
      let workload = Workload(
        mappingCount: effort.size(mappingCount, quick: mappingCount / 16), seed: 1)
      for _ in 0..<effort.repetitions {
        own(workload, title, recorder)
        for name in PeerTable.names { peer(name, workload, title, recorder) }
      }
    }
  }

  private static func own(_ workload: Workload, _ title: String, _ recorder: Recorder) {
    let before = heapByteCount()
    var table = MappingTable()
    recorder.time("\(title): insert") {
      for mapping in workload.mappings {
        _ = try? table.map(mapping.iova, to: mapping.gpaFirst, permissions: mapping.permissions)
      }
    }
    precondition(table.count == workload.mappings.count, "every mapping was inserted")
    recorder.record(
      "\(title): memory per mapping",
      value: Double(heapByteCount() - before) / Double(table.count))
    let sum = recorder.time("\(title): lookup") {
      var sum: UInt64 = 0
      for address in workload.addresses {
        if let gpa = table.lookup(address)?.translate(address) { sum &+= gpa.rawValue }
      }
      return sum
    }
    precondition(sum == expectedSum(workload), "every mapping was found")
    recorder.time("\(title): remove") {
      for mapping in workload.removals { _ = try? table.unmap(mapping.iova) }
    }
    precondition(table.count == 0, "every mapping was removed")
  }

  private static func peer(
    _ name: String, _ workload: Workload, _ title: String, _ recorder: Recorder
  ) {
    guard let table = PeerTable(name) else {
      return recorder.skip(
        name, because: "its package is not installed (Tools/install-needs --bench)")
    }
    let mappings = workload.mappings.map(bench_mapping.init)
    let removals = workload.removals.map(bench_mapping.init)
    let addresses = workload.addresses.map(\.rawValue)
    let count = UInt64(mappings.count)
    let inserted = recorder.time("\(title): insert", name) { table.insert(mappings) }
    let sum = recorder.time("\(title): lookup", name) { table.lookup(addresses) }
    let removed = recorder.time("\(title): remove", name) { table.remove(removals) }
    precondition(inserted == count && removed == count, "the peer did the same work")
    precondition(sum == expectedSum(workload), "the peer found the same")
  }

  private static func expectedSum(_ workload: Workload) -> UInt64 {
    workload.mappings.reduce(0) { $0 &+ $1.gpaFirst.rawValue &+ 123 }
  }
}
