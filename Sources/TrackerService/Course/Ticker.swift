import Dispatch
import VhostUser

/// Calls a body again and again, at a period, on a thread of its own.
final class Ticker: Sendable {
  private let ending = DispatchSemaphore(value: 0)
  private let thread: ServerThread

  init(
    milliseconds: Int, _ body: @escaping @Sendable () -> Void
  ) throws(ServiceError) {
    let ending = ending
    do throws(VhostUserError) {
      thread = try ServerThread("sync") {
        while ending.wait(timeout: .now() + .milliseconds(milliseconds)) == .timedOut { body() }
      }
    } catch {
      throw .noThread("\(error)")
    }
  }

  /// Waits for the call that is under way. To be called once.
  func end() {
    ending.signal()
    thread.join()
  }
}
