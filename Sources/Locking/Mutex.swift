public import Synchronization

/// The lock of this project: `Synchronization.Mutex`, with an order that ThreadSanitizer sees.
///
/// The standard one is a futex inside a library that is not instrumented: the sanitizer sees
/// neither lock nor unlock once two threads meet, and calls everything behind it a race. Here each
/// holder releases an atomic that the next one acquires, inside the lock. That states the order the
/// lock makes anyway, so a race that is really there is still found; it costs a load and a store.
///
/// The atomic lies inside what is locked, not beside the standard lock: to find a field after a
/// generic lock an unspecialised build asks the runtime for the type's layout each time, under a
/// lock of the runtime that the sanitizer does see. That would order all holders of all locks, and
/// hide the races between them.
///
/// Invariants:
/// 1. One holder at a time.
/// 2. What a holder wrote before it let go the next one sees, and the sanitizer knows that it does.
public struct Mutex<Value: ~Copyable>: ~Copyable, Sendable {
  @usableFromInline struct Ordered: ~Copyable {
    @usableFromInline let turn = Atomic<UInt>(0)
    @usableFromInline var value: Value
    /// A value of no bytes would have the address of what follows the lock, and the sanitizer would
    /// take its use for one of that.
    @usableFromInline let end: UInt8 = 0

    @inlinable init(_ value: consuming sending Value) { self.value = value }
  }

  @usableFromInline let mutex: Synchronization.Mutex<Ordered>

  @inlinable public init(_ value: consuming sending Value) {
    self.mutex = Synchronization.Mutex(Ordered(value))
  }

  /// Not to be called again by `body`: it would wait for itself.
  @inlinable public borrowing func withLock<R: ~Copyable, E: Error>(
    _ body: (inout sending Value) throws(E) -> sending R
  ) throws(E) -> sending R {
    try mutex.withLock { (ordered: inout sending Ordered) throws(E) -> sending R in
      let turn = ordered.turn.load(ordering: .acquiring)
      defer { ordered.turn.store(turn &+ 1, ordering: .releasing) }
      return try body(&ordered.value)
    }
  }
}
