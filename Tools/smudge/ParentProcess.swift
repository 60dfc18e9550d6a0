import Dispatch
import Foundation

/// The process that started this one for itself.
final class ParentProcess {
  private let timer: any DispatchSourceTimer

  /// Ends this process when `parent` has ended, which may have happened already: nobody is left who
  /// could connect, or read what is said.
  init(_ parent: Int32) {
    timer = DispatchSource.makeTimerSource(queue: .global())
    timer.setEventHandler { if getppid() != parent { exit(ToolStatus.failed.rawValue) } }
    timer.schedule(deadline: .now(), repeating: .milliseconds(500))
    timer.resume()
  }
}
