import Glibc

/// State behind a lock that threads can wait on.
///
/// Unsafe because `pthread_mutex_t` and `pthread_cond_t` must stay where they were initialised.
/// Sound because both live in memory this object allocates and frees, and `state` is reached only
/// with the mutex held.
@safe final class Monitor<State: Sendable>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var state: State

  init(_ state: State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    unsafe pthread_mutex_init(mutex, nil)
    unsafe pthread_cond_init(condition, &attributes)
    unsafe pthread_condattr_destroy(&attributes)
  }

  deinit {
    unsafe pthread_cond_destroy(condition)
    unsafe pthread_mutex_destroy(mutex)
    unsafe condition.deallocate()
    unsafe mutex.deallocate()
  }

  /// Changes the state and wakes who waits for it.
  @discardableResult
  func update<R>(_ body: (inout State) -> R) -> R {
    unsafe pthread_mutex_lock(mutex)
    let result = body(&state)
    unsafe pthread_cond_broadcast(condition)
    unsafe pthread_mutex_unlock(mutex)
    return result
  }

  /// Waits until the state is as wanted, or the clock reads `deadline`.
  /// - Returns: whether the state is as wanted.
  @discardableResult
  func wait(until deadline: MonotonicTime? = nil, for isWanted: (State) -> Bool) -> Bool {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    while !isWanted(state) {
      if let deadline {
        var time = timespec(
          tv_sec: Int(deadline.nanoseconds / 1_000_000_000),
          tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
        if unsafe pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT {
          return isWanted(state)
        }
      } else {
        unsafe pthread_cond_wait(condition, mutex)
      }
    }
    return true
  }
}
