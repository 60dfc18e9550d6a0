import Addressing
import GuestDirtyLog
import Locking
import NodeThreads

/// Section 3.5: the log's bitmaps lie on the node of the region they are for, and the work on them
/// is done there.
enum NUMATest {
  static func run(_ arguments: [String]) throws -> LabResult {
    var result = LabResult()
    for swapsNodes in [false, true] {
      let record = NodeRecord()
      let topology = RecordingTopology(record: record, swapsNodes: swapsNodes)
      guard topology.nodeCount == 2 else { throw LabError("there are not two nodes") }
      let workers = RecordingWorkers(nodeCount: topology.nodeCount)
      let log = GuestDirtyLog(topology: topology, workers: workers)
      for node in 0..<2 {
        try log.addRegion(
          RAMRegion(
            name: "node\(node)", gpaFirst: GPA(UInt64(node) << 36), byteCount: 16 << 30,
            node: node))
      }
      _ = try log.addConsumer("migration", startsDirty: true)
      _ = log.markEverything(by: .vcpu)
      for node in 0..<2 {
        let placement = record.placement(onNode: node)
        print("  node \(node): \(placement)")
        if swapsNodes {
          result.check(
            "memory from another node is noticed for node \(node)",
            placement.wrong > 0 && placement.right == 0, "\(placement)")
        } else {
          result.check(
            "all the log's memory of node \(node) is there, as the kernel says",
            placement.right >= 100 && placement.wrong == 0, "\(placement)")
        }
      }
      let ran = workers.ran.withLock { $0 }
      print("  work, and where it ran: \(ran)")
      for node in 0..<2 {
        result.check(
          "the work of node \(node) ran there", ran[node].map { $0 == [node] } ?? false,
          "\(ran[node] ?? [])")
      }
    }
    return result
  }
}

/// The log's workers, with a record of where each node's work ran.
final class RecordingWorkers: NodeWorkers {
  private let threads: NodeThreads
  let ran = Mutex<[Int: Set<Int>]>([:])

  init(nodeCount: Int) { threads = NodeThreads(nodeCount: nodeCount) }

  func run(_ work: [NodeWork]) {
    threads.run(
      work.map { each in
        NodeWork(node: each.node) {
          if let node = each.node {
            _ = self.ran.withLock { $0[node, default: []].insert(NodeRecord.currentNode()) }
          }
          each.body()
        }
      })
  }
}
