public import Synchronization

/// A lock for a short operation that may come at any time and a long one made of many steps.
///
/// The long one takes the lock for each step, and between two steps it lets the short ones go
/// first: it watches ``requestCount`` and leaves the lock alone until nobody has asked for a while.
/// How long "a while" is the caller decides, who has a clock.
///
/// Example: a sync asks a backend about 64 windows. It takes the lock 64 times by `withStep`. A
/// thread that maps a page takes it by `withLock`, which counts it, and waits for one window.
///
/// Invariants:
/// 1. One holder at a time.
/// 2. `requestCount` rises before its caller waits, so a request made during a step is seen by the
///    one who made the step.
public struct TurnLock<Value: ~Copyable>: ~Copyable, Sendable {
  @usableFromInline let requests = Atomic<UInt64>(0)
  @usableFromInline let served = Atomic<UInt64>(0)
  @usableFromInline let mutex: Mutex<Value>

  @inlinable public init(_ value: consuming sending Value) {
    mutex = Mutex(value)
  }

  /// Calls of `withLock` so far, those that wait included. Wraps.
  @inlinable public var requestCount: UInt64 { requests.load(ordering: .relaxed) }

  /// Somebody has called `withLock` and is not done: one who waits may need a while to wake up.
  @inlinable public var hasWaiter: Bool {
    served.load(ordering: .relaxed) != requests.load(ordering: .relaxed)
  }

  /// For a short operation. Not to be called again by `body`: it would wait for itself.
  @inlinable public borrowing func withLock<R: ~Copyable, E: Error>(
    _ body: (inout sending Value) throws(E) -> sending R
  ) throws(E) -> sending R {
    requests.wrappingAdd(1, ordering: .relaxed)
    return try mutex.withLock { (value: inout sending Value) throws(E) -> sending R in
      // Only a holder writes it, so it is no exchange with other processors.
      defer { served.store(served.load(ordering: .relaxed) &+ 1, ordering: .relaxed) }
      return try body(&value)
    }
  }

  /// For one step of the long operation.
  @inlinable public borrowing func withStep<R: ~Copyable, E: Error>(
    _ body: (inout sending Value) throws(E) -> sending R
  ) throws(E) -> sending R {
    try mutex.withLock(body)
  }
}
