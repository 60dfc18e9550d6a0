import Addressing
import Foundation
import GuestDirtyLog
import Locking
import NodeThreads
import PageBitmap
import Testing

/// As many nodes as wanted, memory from anywhere.
private struct ManyNodes: NUMATopology {
  let nodeCount: Int
  func allocator(onNode node: Int) -> any BitmapAllocator { HeapBitmapAllocator() }
}

/// Notes on which thread the work of each node ran.
private final class Watched: NodeWorkers {
  let threads: NodeThreads
  let seen = Mutex<[Int: Set<String>]>([:])

  init(nodeCount: Int) { threads = NodeThreads(nodeCount: nodeCount) }

  func run(_ work: [NodeWork]) {
    threads.run(
      work.map { each in
        NodeWork(node: each.node) {
          let name = "\(Thread.current)"
          self.seen.withLock { _ = $0[each.node ?? -1, default: []].insert(name) }
          each.body()
        }
      })
  }
}

@Suite struct NodeThreadsTests {
  private static func log(_ workers: Watched, nodeCount: Int) throws -> GuestDirtyLog {
    let log = GuestDirtyLog(topology: ManyNodes(nodeCount: nodeCount), workers: workers)
    for index in 0..<4 as Range<UInt64> {
      try log.addRegion(
        RAMRegion(
          name: "\(index)",
          gpa: AddressRange(first: GPA(index << 24), last: GPA(index << 24 + 0xff_ffff)),
          node: Int(index % 2)))
    }
    return log
  }

  @Test func `each node's work is always done by the same thread, another for each node`() throws {
    let workers = Watched(nodeCount: 2)
    let log = try Self.log(workers, nodeCount: 2)
    let consumer = try log.addConsumer("migration", startsDirty: false)
    let words = [UInt64](repeating: .max, count: 256)
    for _ in 0..<50 {
      let count = log.merge(words: words.span, bitCount: 16384, at: GPA(0), by: .vcpu)
      #expect(count.dirtyPages == 16384)
    }
    #expect(log.dirtyPageCount(for: consumer) == 16384)
    let seen = workers.seen.withLock { $0 }
    #expect(seen[0]?.count == 1 && seen[1]?.count == 1 && seen[0] != seen[1])
  }

  @Test func `several threads may ask at once, and each finds its own work done`() throws {
    let workers = Watched(nodeCount: 2)
    let log = try Self.log(workers, nodeCount: 2)
    let consumer = try log.addConsumer("migration", startsDirty: false)
    DispatchQueue.concurrentPerform(iterations: 4) { asker in
      let words = [UInt64](repeating: 1 << UInt64(asker), count: 256)
      for _ in 0..<20 {
        let count = log.merge(words: words.span, bitCount: 16384, at: GPA(0), by: .vcpu)
        #expect(count.dirtyPages == 256)
      }
    }
    #expect(log.dirtyPageCount(for: consumer) == 4 * 256)
  }

  @Test func `work of no node, or of a node without a thread, is done by who asks`() {
    let here = "\(Thread.current)"
    let seen = Mutex<[String]>([])
    let body: @Sendable () -> Void = { seen.withLock { $0.append("\(Thread.current)") } }
    NodeThreads(nodeCount: 2).run([
      NodeWork(node: nil, body: body), NodeWork(node: 7, body: body),
      NodeWork(node: -1, body: body),
    ])
    NodeThreads(nodeCount: 1).run([NodeWork(node: 0, body: body)])
    #expect(seen.withLock { $0 } == [here, here, here, here])
  }

  @Test func `the work may hold the last reference, and lets go of it on the node's own thread`() {
    let gone = DispatchSemaphore(value: 0)
    for _ in 0..<200 {
      // The work holds its threads, and is let go of at about the time `run` returns.
      let threads = NodeThreads(nodeCount: 2)
      let last = Last(threads) { gone.signal() }
      threads.run([NodeWork(node: 1) { last.use() }])
    }
    for _ in 0..<200 { gone.wait() }
  }
}

/// Says when it is let go of.
private final class Last: Sendable {
  private let threads: NodeThreads
  private let isGone: @Sendable () -> Void

  init(_ threads: NodeThreads, isGone: @escaping @Sendable () -> Void) {
    self.threads = threads
    self.isGone = isGone
  }

  deinit { isGone() }

  func use() {}
}
