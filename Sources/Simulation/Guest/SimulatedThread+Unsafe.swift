import CSmudgeLinux
import Glibc

/// A thread of the machine, not a task: it blocks, and it runs beside the others in earnest.
///
/// Unsafe because the closure travels through pthread_create as a bare pointer. Sound because it is
/// retained for exactly the one thread that takes it over.
public final class SimulatedThread: Sendable {
  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(name: String, run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  public let name: String
  private let handle: pthread_t

  /// Starts it.
  /// - Throws: `GuestError.thread` when the kernel has no thread left.
  public init(name: String, _ body: @escaping @Sendable () -> Void) throws(GuestError) {
    let retained = unsafe Unmanaged.passRetained(Body(name: name, run: body))
    var handle = pthread_t()
    let error = unsafe pthread_create(
      &handle, nil,
      { @Sendable argument in
        guard let argument = unsafe argument else { return nil }
        let body = unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
        unsafe smudge_thread_set_name(body.name)
        body.run()
        return nil
      }, retained.toOpaque())
    guard error == 0 else {
      unsafe retained.release()
      throw .thread(name: name, errno: error)
    }
    self.name = name
    self.handle = handle
  }

  /// Waits for its end.
  /// - Precondition: called once, and by another thread.
  public func join() {
    let error = pthread_join(handle, nil)
    precondition(error == 0, "thread \(name) can be joined once, and not by itself")
  }

  /// Whether the caller runs on this thread.
  public var isCurrent: Bool { pthread_equal(pthread_self(), handle) != 0 }
}
