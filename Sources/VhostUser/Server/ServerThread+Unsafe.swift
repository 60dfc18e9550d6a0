import CSmudgeLinux
import Glibc

/// A thread with a name, until its body returns.
///
/// Unsafe because the closure travels through pthread_create as a bare pointer. Sound because it is
/// retained for exactly the one thread that takes it over.
package final class ServerThread: Sendable {
  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  private let handle: pthread_t

  /// Starts it. It takes no signals: those are for whoever handles them.
  /// - Parameter name: its first 15 bytes are shown.
  package init(
    _ name: String, _ run: @escaping @Sendable () -> Void
  ) throws(VhostUserError) {
    let retained = unsafe Unmanaged.passRetained(Body(name, run))
    var handle = pthread_t()
    var (all, before) = (sigset_t(), sigset_t())
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
    let error = unsafe pthread_create(
      &handle, nil,
      { @Sendable argument in
        guard let argument = unsafe argument else { return nil }
        let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
        unsafe smudge_thread_set_name(body.name)
        body.run()
        return nil
      }, retained.toOpaque())
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    guard error == 0 else {
      unsafe retained.release()
      throw .noThread(errno: error)
    }
    self.handle = handle
  }

  /// Waits for its end. Called on the thread itself it lets the thread end on its own.
  /// - Precondition: called once.
  package func join() {
    if pthread_equal(handle, pthread_self()) != 0 {
      pthread_detach(handle)
    } else {
      pthread_join(handle, nil)
    }
  }
}
