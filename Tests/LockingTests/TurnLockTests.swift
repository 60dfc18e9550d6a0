import Glibc
import Locking
import Simulation
import Testing

@Suite struct TurnLockTests {
  private final class Counted: Sendable {
    let count = TurnLock(0)
  }

  /// A sync looks whether somebody waits, and stands back until they were served.
  @Test func `who waits is seen until he has had the lock, not only until he has asked`() throws {
    let counted = Counted()
    var threads: [SimulatedThread] = []
    try counted.count.withStep { count in
      threads.append(
        try SimulatedThread(name: "waiter") { counted.count.withLock { $0 += 1 } })
      // Ten seconds at most.
      for _ in 0..<10_000 where counted.count.requestCount == 0 { usleep(1000) }
      let requestCount = counted.count.requestCount
      #expect(requestCount == 1)
      for _ in 0..<20 {
        let hasWaiter = counted.count.hasWaiter
        #expect(hasWaiter)
        usleep(1000)
      }
      #expect(count == 0)
    }
    for thread in threads { thread.join() }
    let (hasWaiter, count) = (counted.count.hasWaiter, counted.count.withStep { $0 })
    #expect(!hasWaiter && count == 1)
  }
}
