import Locking
import Simulation
import Testing

@Suite struct MutexTests {
  private struct Refused: Error, Equatable {}

  private final class Guarded: Sendable {
    let sums = Mutex<(first: Int, second: Int)>((0, 0))
  }

  @Test func `no step of one thread falls between two steps of another`() throws {
    let guarded = Guarded()
    let threads = try (0..<3).map { number in
      try SimulatedThread(name: "adder \(number)") {
        for step in 0..<2000 {
          guarded.sums.withLock { sums in
            let (first, second) = sums
            precondition(first == second, "\(first) and \(second) after step \(step)")
            sums.first = first + 1
            sums.second = second + 1
          }
        }
      }
    }
    for thread in threads { thread.join() }
    #expect(guarded.sums.withLock { $0 } == (6000, 6000))
  }

  @Test func `an error leaves the lock free and what was written before it in place`() {
    let count = Mutex(1)
    #expect(throws: Refused()) {
      try count.withLock { count throws(Refused) in
        count = 2
        throw Refused()
      }
    }
    #expect(count.withLock { $0 } == 2)
  }
}
