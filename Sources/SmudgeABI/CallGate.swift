import Synchronization

/// Counts the calls inside an object of the C library, and closes it when there are none.
///
/// Invariants:
/// 1. Between `enter` that returned true and its `leave` the gate does not close.
/// 2. A closed gate stays closed.
struct CallGate: ~Copyable {
  private static let closed: UInt64 = 1 << 63
  private let state = Atomic<UInt64>(0)

  /// - Returns: false when it is closed.
  @inline(__always) borrowing func enter() -> Bool {
    let before = state.wrappingAdd(1, ordering: .acquiring).oldValue
    if before & Self.closed == 0 { return true }
    state.wrappingSubtract(1, ordering: .relaxed)
    return false
  }

  @inline(__always) borrowing func leave() {
    state.wrappingSubtract(1, ordering: .releasing)
  }

  enum Closing {
    case done
    /// Calls are inside.
    case busy
    /// It was closed before.
    case again
  }

  borrowing func close() -> Closing {
    let (exchanged, found) = state.compareExchange(
      expected: 0, desired: Self.closed, ordering: .acquiringAndReleasing)
    if exchanged { return .done }
    return found & Self.closed == 0 ? .busy : .again
  }
}
