import DeviceMigration
import Dispatch

/// Gives signs of life on a stream as long as it exists, four in the time after which the other
/// side would give up.
final class Heartbeat {
  private let timer: any DispatchSourceTimer

  init(_ sign: SignOfLife, timeoutMilliseconds: Int) {
    timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "sign of life"))
    let interval = DispatchTimeInterval.milliseconds(max(timeoutMilliseconds / 4, 100))
    timer.schedule(deadline: .now() + interval, repeating: interval)
    timer.setEventHandler { sign.give() }
    timer.resume()
  }

  deinit { timer.cancel() }
}
