import CNuma
import Glibc

/// One thread that stays on one memory node and does what it is handed, one thing after another.
///
///     idle --hand--> busy --done--> idle --end--> ended
///
/// Unsafe because `pthread_mutex_t` and `pthread_cond_t` must stay where they were initialised and
/// the thread reaches this object by a bare pointer. Sound because both live in memory this object
/// frees after the thread has let go of it, the thread's pointer is retained for it, and `job` and
/// `hasEnded` are reached only with the mutex held.
@safe final class NodeThread: @unchecked Sendable {
  let node: Int
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>
  private var job: (@Sendable () -> Void)?
  private var hasEnded = false
  private var handle: pthread_t?

  /// Without a thread, where the system has none left, whoever hands does the work.
  init(node: Int) {
    self.node = node
    unsafe mutex = .allocate(capacity: 1)
    unsafe changed = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
    unsafe pthread_cond_init(changed, nil)
    let retained = unsafe Unmanaged.passRetained(Loop(self))
    var handle = pthread_t()
    let error = unsafe pthread_create(
      &handle, nil,
      { @Sendable argument in
        guard let argument = unsafe argument else { return nil }
        unsafe Unmanaged<Loop>.fromOpaque(argument).takeRetainedValue().run()
        return nil
      }, retained.toOpaque())
    if error == 0 { self.handle = handle } else { unsafe retained.release() }
  }

  deinit {
    unsafe pthread_cond_destroy(changed)
    unsafe pthread_mutex_destroy(mutex)
    unsafe changed.deallocate()
    unsafe mutex.deallocate()
  }

  /// Gives the thread something to do, once it has nothing.
  func hand(_ body: @escaping @Sendable () -> Void) {
    guard handle != nil else { return body() }
    unsafe pthread_mutex_lock(mutex)
    while job != nil { unsafe pthread_cond_wait(changed, mutex) }
    job = body
    unsafe pthread_cond_broadcast(changed)
    unsafe pthread_mutex_unlock(mutex)
  }

  /// Ends the thread after what it was handed last.
  func end() {
    guard let handle else { return }
    unsafe pthread_mutex_lock(mutex)
    hasEnded = true
    unsafe pthread_cond_broadcast(changed)
    unsafe pthread_mutex_unlock(mutex)
    // What was handed over may have held the last reference, and be let go of by this very thread,
    // which can not wait for itself; it ends when it is back in its loop.
    if pthread_equal(handle, pthread_self()) != 0 {
      pthread_detach(handle)
    } else {
      pthread_join(handle, nil)
    }
    self.handle = nil
  }

  private func run() {
    // A refusal leaves the thread where the scheduler puts it: slower, not wrong.
    if numa_available() >= 0 { _ = numa_run_on_node(Int32(node)) }
    while let body = next() {
      body()
      unsafe pthread_mutex_lock(mutex)
      job = nil
      unsafe pthread_cond_broadcast(changed)
      unsafe pthread_mutex_unlock(mutex)
    }
  }

  /// The job stays until it is done: another caller's waits for that.
  private func next() -> (@Sendable () -> Void)? {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    while job == nil, !hasEnded { unsafe pthread_cond_wait(changed, mutex) }
    return job
  }

  private final class Loop {
    let thread: NodeThread
    init(_ thread: NodeThread) { self.thread = thread }
    func run() { thread.run() }
  }
}

/// Counts down to nothing left, for one thread to wait for.
///
/// Unsafe and sound as ``NodeThread`` is; `left` is reached only with the mutex held.
@safe final class Countdown: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let changed: UnsafeMutablePointer<pthread_cond_t>
  private var left: Int

  init(_ count: Int) {
    left = count
    unsafe mutex = .allocate(capacity: 1)
    unsafe changed = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
    unsafe pthread_cond_init(changed, nil)
  }

  deinit {
    unsafe pthread_cond_destroy(changed)
    unsafe pthread_mutex_destroy(mutex)
    unsafe changed.deallocate()
    unsafe mutex.deallocate()
  }

  func countDown() {
    unsafe pthread_mutex_lock(mutex)
    left -= 1
    unsafe pthread_cond_broadcast(changed)
    unsafe pthread_mutex_unlock(mutex)
  }

  func wait() {
    unsafe pthread_mutex_lock(mutex)
    while left > 0 { unsafe pthread_cond_wait(changed, mutex) }
    unsafe pthread_mutex_unlock(mutex)
  }
}
