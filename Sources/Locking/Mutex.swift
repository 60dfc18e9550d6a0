public import Synchronization

/// The lock of this project: `Synchronization.Mutex`, with an order that ThreadSanitizer sees.
///
/// The standard one is a futex inside a library that is not instrumented: the sanitizer sees
/// neither lock nor unlock, and calls everything behind it a race. Here each holder releases an
/// atomic that the next one acquires, inside the lock. That states the order the lock makes anyway,
/// so a race that is really there is still found; it costs a load and a store.
///
/// Invariants:
/// 1. One holder at a time.
/// 2. What a holder wrote before it let go the next one sees, and the sanitizer knows that it does.
public struct Mutex<Value: ~Copyable>: ~Copyable, Sendable {
  @usableFromInline let mutex: Synchronization.Mutex<Value>
  @usableFromInline let turn = Atomic<UInt>(0)

  @inlinable public init(_ value: consuming sending Value) {
    self.mutex = Synchronization.Mutex(value)
  }

  /// Not to be called again by `body`: it would wait for itself.
  @inlinable public borrowing func withLock<R: ~Copyable, E: Error>(
    _ body: (inout sending Value) throws(E) -> sending R
  ) throws(E) -> sending R {
    try mutex.withLock { (value: inout sending Value) throws(E) -> sending R in
      let turn = self.turn.load(ordering: .acquiring)
      defer { self.turn.store(turn &+ 1, ordering: .releasing) }
      return try body(&value)
    }
  }
}
