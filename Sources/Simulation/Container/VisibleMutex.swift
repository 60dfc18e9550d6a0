import Synchronization

/// A `Mutex` whose order ThreadSanitizer sees.
///
/// `Synchronization.Mutex` is a futex inside a library that is not instrumented: the sanitizer sees
/// neither lock nor unlock, and calls everything behind it a race. Here each holder releases an
/// atomic that the next one acquires, inside the lock, which states the order that the lock makes
/// anyway; it costs a load and a store.
public struct VisibleMutex<Value: ~Copyable>: ~Copyable, Sendable {
  private let mutex: Mutex<Value>
  private let turn = Atomic<UInt>(0)

  public init(_ value: consuming sending Value) {
    self.mutex = Mutex(value)
  }

  public borrowing func withLock<R: ~Copyable, E: Error>(
    _ body: (inout sending Value) throws(E) -> sending R
  ) throws(E) -> sending R {
    try mutex.withLock { (value: inout sending Value) throws(E) -> sending R in
      let turn = self.turn.load(ordering: .acquiring)
      defer { self.turn.store(turn &+ 1, ordering: .releasing) }
      return try body(&value)
    }
  }
}
