import Addressing
import Foundation
import GuestDirtyLog
import Locking
import Testing

/// A thread a node, and a note of what ran where.
final class ThreadWorkers: NodeWorkers {
  private let ran = Mutex<[Int?]>([])
  let isSkipping: Bool

  init(isSkipping: Bool = false) { self.isSkipping = isSkipping }

  func run(_ work: [NodeWork]) {
    let done = DispatchGroup()
    for each in work {
      ran.withLock { $0.append(each.node) }
      if isSkipping && each.node == 1 { continue }
      done.enter()
      Thread.detachNewThread {
        each.body()
        done.leave()
      }
    }
    done.wait()
  }

  var nodes: [Int?] { ran.withLock { $0 } }
}

@Suite struct NodeTests {
  static func log(_ workers: ThreadWorkers, _ topology: FakeTopology) throws -> GuestDirtyLog {
    let log = GuestDirtyLog(topology: topology, workers: workers)
    for index in 0..<4 as Range<UInt64> {
      try log.addRegion(
        RAMRegion(
          name: "\(index)", gpa: LogPair.range(index * 1000, index * 1000 + 999),
          node: Int(index % 2)))
    }
    return log
  }

  @Test func `each region's bitmap is on its node and merged by its node's worker`() throws {
    let workers = ThreadWorkers()
    let topology = FakeTopology(nodeCount: 2)
    let log = try Self.log(workers, topology)
    #expect(topology.allocatorsByNode == [0: 2, 1: 2])
    let consumer = try log.addConsumer("migration", startsDirty: false)
    let before = workers.nodes.count
    let words = [UInt64](repeating: 0x8000_0000_0000_0001, count: 64)
    let count = log.merge(
      words: words.span, bitCount: 64 * 64, at: GPA(0), by: .vcpu)
    #expect(Array(workers.nodes[before...]) == [0, 1])
    #expect(count.dirtyPages == 125 && count.newlyDirtyPages == 125 && count.outsidePages == 3)
    #expect(log.dirtyPageCount(for: consumer) == 125)
  }

  @Test func `a worker that leaves its node out is noticed`() throws {
    let log = try Self.log(ThreadWorkers(isSkipping: true), FakeTopology(nodeCount: 2))
    let consumer = try log.addConsumer("migration", startsDirty: true)
    #expect(log.dirtyPageCount(for: consumer) == 2000)
  }

  @Test func `a machine without NUMA asks for no node and starts no worker`() throws {
    let workers = ThreadWorkers()
    let topology = FakeTopology(nodeCount: 1)
    let log = try Self.log(workers, topology)
    let consumer = try log.addConsumer("migration", startsDirty: true)
    #expect(log.dirtyPageCount(for: consumer) == 4000)
    #expect(workers.nodes.isEmpty && topology.allocatorsByNode.isEmpty)
  }

  @Test func `the system's nodes give memory, whatever there are of them`() throws {
    let topology = SystemNUMATopology()
    #expect(topology.nodeCount >= 1)
    let log = GuestDirtyLog(topology: topology)
    for node in [0, topology.nodeCount - 1, topology.nodeCount, -1].enumerated() {
      try log.addRegion(
        RAMRegion(
          name: "\(node.offset)",
          gpa: LogPair.range(UInt64(node.offset) * 10, UInt64(node.offset) * 10 + 9),
          node: node.element))
    }
    let consumer = try log.addConsumer("migration", startsDirty: true)
    #expect(log.dirtyPageCount(for: consumer) == 40)
  }
}
