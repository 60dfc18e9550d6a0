public import GuestDirtyLog

/// A thread for each memory node, which does the guest dirty log's work on that node's bitmaps.
///
/// Give it to ``GuestDirtyLog`` on a machine of several nodes. It is a module of its own because
/// the log, as all below the backends, starts no thread.
///
/// Invariants:
/// 1. `run` returns when every body has returned.
/// 2. Work of one node is done by that node's thread, one thing after another, whoever asks.
/// 3. Work of no node, or of a node there is no thread for, is done by the thread that asks.
public final class NodeThreads: NodeWorkers {
  private let threads: [NodeThread]

  /// - Parameter nodeCount: of the topology the log was given.
  public init(nodeCount: Int) {
    threads = nodeCount > 1 ? (0..<nodeCount).map { NodeThread(node: $0) } : []
  }

  deinit { for thread in threads { thread.end() } }

  /// - Precondition: not called by a body.
  public func run(_ work: [NodeWork]) {
    let handed = work.filter { thread(for: $0) != nil }
    let countdown = Countdown(handed.count)
    for each in handed {
      thread(for: each)?.hand {
        each.body()
        countdown.countDown()
      }
    }
    for each in work where thread(for: each) == nil { each.body() }
    countdown.wait()
  }

  private func thread(for work: NodeWork) -> NodeThread? {
    guard let node = work.node, threads.indices.contains(node) else { return nil }
    return threads[node]
  }
}
