import CBitmapKernels
import Glibc
import Locking
import Simulation
import Synchronization

/// The faults that a sanitizer must find, one function each. Each is harmless where no sanitizer
/// looks: it runs to its end, and the process lives.
///
/// Unsafe because being wrong is their purpose. They run in processes of their own (exit tests).
enum PlantedFaults {
  /// No lock guards it, whatever its conformance says.
  @safe private final class Cell: @unchecked Sendable {
    var value = 0
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 512)
    init() { unsafe words.initialize(repeating: 1, count: 512) }
    deinit { unsafe words.deallocate() }
  }

  /// Begins on both threads at once and ends neither before the other: the sanitizer may forget
  /// what a thread that is gone has done. The meeting is relaxed, so it orders nothing itself.
  private static func onTwoThreads(_ body: @escaping @Sendable (_ thread: Int) -> Void) throws {
    let met = Meetings()
    let threads = try (0..<2).map { number in
      try SimulatedThread(name: "planted \(number)") {
        met.meet(arrivals: 2)
        body(number)
        met.meet(arrivals: 4)
      }
    }
    for thread in threads { thread.join() }
  }

  private final class Meetings: Sendable {
    let arrived = Atomic<Int>(0)
    func meet(arrivals: Int) {
      arrived.wrappingAdd(1, ordering: .relaxed)
      while arrived.load(ordering: .relaxed) < arrivals { sched_yield() }
    }
  }

  static func race() throws {
    let cell = Cell()
    try onTwoThreads { _ in for _ in 0..<1000 { cell.value &+= 1 } }
  }

  /// No fault: what the lock of this project is for.
  static func guardedByOneLock() throws {
    let cell = Cell()
    let lock = Locking.Mutex(())
    try onTwoThreads { _ in
      for _ in 0..<1000 { lock.withLock { _ in cell.value &+= 1 } }
    }
    guard cell.value == 2000 else { fatalError("\(cell.value) of 2000 steps under the lock") }
  }

  /// Each thread has a lock, but not the same one.
  static func guardedByTwoLocks() throws {
    let cell = Cell()
    let locks = [Boxed(), Boxed()]
    try onTwoThreads { thread in
      for _ in 0..<1000 { locks[thread].lock.withLock { _ in cell.value &+= 1 } }
    }
  }

  /// One thread writes after it has let the lock go, the other after that and before it has taken
  /// it: the order that the lock states must not cover those writes.
  static func besideTheLock() throws {
    let cell = Cell()
    let lock = Locking.Mutex(0)
    let written = Meetings()
    try onTwoThreads { thread in
      if thread == 0 {
        lock.withLock { $0 &+= 1 }
        cell.value &+= 1
        written.meet(arrivals: 1)
      } else {
        written.meet(arrivals: 2)
        cell.value &+= 1
        lock.withLock { $0 &+= 1 }
      }
    }
  }

  /// One thread writes words that a kernel written in C reads on the other, 64 bytes at a time
  /// where the CPU can.
  static func raceInKernel() throws {
    let cell = Cell()
    try onTwoThreads { thread in
      for index in 0..<1000 {
        if thread == 0 {
          unsafe cell.words[index % 512] = 3
        } else {
          _ = unsafe smudge_bitmap_population(cell.words, 512)
        }
      }
    }
  }

  /// Reads the word after the last one.
  static func readPastTheEnd() {
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: 3)
    unsafe words.initialize(repeating: 0, count: 3)
    let past = unsafe words[3 + Int(getpid() & 0)]
    unsafe words[0] = past
    unsafe words.deallocate()
  }

  private final class Boxed: Sendable {
    let lock = Locking.Mutex(())
  }
}
