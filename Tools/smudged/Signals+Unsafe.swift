import Glibc

/// SIGTERM and SIGINT as something to wait for.
///
/// Unsafe because sets of signals are filled by address. Sound because each is a local.
enum Signals {
  /// Blocks what ``awaitEnd()`` waits for, in this thread and in those it starts; and no reader
  /// that goes away ends the process.
  /// - Precondition: no other thread runs yet.
  static func prepare() {
    _ = signal(SIGPIPE, SIG_IGN)
    var set = ending
    _ = unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// - Returns: the name of the signal that came. From then on a second one ends the process at
  ///   once.
  static func awaitEnd() -> String {
    var set = ending
    var number: Int32 = 0
    // It may be interrupted by a debugger, and has no other error for a set that is right.
    while unsafe sigwait(&set, &number) != 0 {}
    _ = unsafe pthread_sigmask(SIG_UNBLOCK, &set, nil)
    return number == SIGINT ? "SIGINT" : "SIGTERM"
  }

  private static var ending: sigset_t {
    var set = sigset_t()
    _ = unsafe sigemptyset(&set)
    _ = unsafe sigaddset(&set, SIGTERM)
    _ = unsafe sigaddset(&set, SIGINT)
    return set
  }
}
