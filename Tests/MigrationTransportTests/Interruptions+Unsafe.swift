import Glibc

/// Signals into the middle of calls. Unsafe in a structure that C fills; it is a local.
enum Interruptions {
  /// From now on SIGUSR1 interrupts a call that waits, and nothing else comes of it.
  static func prepare() {
    var action = sigaction()
    unsafe action.__sigaction_handler.sa_handler = { _ in }
    // Without SA_RESTART the kernel gives EINTR instead of going on.
    action.sa_flags = 0
    precondition(unsafe sigaction(SIGUSR1, &action, nil) == 0)
  }

  static func interrupt(_ thread: pthread_t) { _ = pthread_kill(thread, SIGUSR1) }

  /// A descriptor from which zeroes come without end.
  static func openZeroes() -> Int32 { unsafe open("/dev/zero", O_RDONLY) }
}
