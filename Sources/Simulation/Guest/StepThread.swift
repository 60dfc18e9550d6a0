import Locking
import Synchronization

/// A thread that takes one step after another, at a rate: a vCPU, a device, a guest's driver.
///
/// States:
///
///     idle --start--> running <--resume-- paused
///                        |                  ^
///                        +------pause-------+        any --stop--> stopped
///
/// Invariants:
/// 1. When `pause` or `stop` has returned no step is in progress, and none begins before `resume`.
///    What the steps wrote is then visible to the caller.
/// 2. A rate is kept on average over some milliseconds; after a pause nothing is made up for.
public final class StepThread: Sendable {
  private enum Command: UInt8, Sendable { case run, pause, stop }
  private struct State: Sendable {
    var command = Command.run
    var isParked = false
  }

  public let name: String
  private let step: @Sendable () -> Void
  private let monitor = Monitor(State())
  /// Not `run`: the thread must look at the monitor before its next step.
  private let attention = Atomic<Bool>(false)
  private let rate: Atomic<UInt64>
  private let steps = Atomic<UInt64>(0)
  private let thread = Locking.Mutex<SimulatedThread?>(nil)

  /// - Parameters:
  ///   - stepsPerSecond: 0 for as fast as it goes.
  ///   - step: called on the thread; must not pause or stop it.
  public init(name: String, stepsPerSecond: UInt64, step: @escaping @Sendable () -> Void) {
    self.name = name
    self.step = step
    rate = Atomic(stepsPerSecond)
  }

  /// Steps taken.
  public var stepCount: UInt64 { steps.load(ordering: .relaxed) }

  /// May be changed while it runs; 0 for as fast as it goes.
  public var stepsPerSecond: UInt64 {
    get { rate.load(ordering: .relaxed) }
    set { rate.store(newValue, ordering: .relaxed) }
  }

  /// Starts the thread. It keeps this object alive until `stop`.
  /// - Precondition: not started before.
  public func start() throws(GuestError) {
    try thread.withLock { (thread: inout SimulatedThread?) throws(GuestError) in
      precondition(thread == nil, "\(name) is started once")
      thread = try SimulatedThread(name: name) { self.run() }
    }
  }

  /// Returns when no step is in progress. Does nothing more when paused already; a thread that was
  /// not started yet will start paused.
  public func pause() { command(.pause) }

  public func resume() {
    monitor.update { state in
      guard state.command == .pause else { return }
      state.command = .run
      attention.store(false, ordering: .releasing)
    }
  }

  /// Ends the thread and waits for its end.
  public func stop() {
    command(.stop)
    let ended = thread.withLock { $0.take() }
    ended?.join()
  }

  private func command(_ command: Command) {
    let isStarted = thread.withLock { thread in
      precondition(thread?.isCurrent != true, "\(name) cannot wait for its own step")
      return thread != nil
    }
    monitor.update { state in
      guard state.command != .stop else { return }
      state.command = command
      attention.store(true, ordering: .releasing)
    }
    if isStarted { monitor.wait { $0.isParked || $0.command == .run } }
  }

  private func run() {
    var pace = Pace(now: .now)
    while true {
      if attention.load(ordering: .acquiring) {
        guard park() else { return }
        pace = Pace(now: .now)
        continue
      }
      let wanted = rate.load(ordering: .relaxed)
      if let wakeAt = pace.wait(stepsPerSecond: wanted) {
        monitor.wait(until: wakeAt) { $0.command != .run }
        continue
      }
      step()
      steps.wrappingAdd(1, ordering: .relaxed)
    }
  }

  /// - Returns: false when the thread is to end.
  private func park() -> Bool {
    monitor.update { $0.isParked = true }
    monitor.wait { $0.command != .pause }
    return monitor.update { state in
      // A stopped thread stays parked: nobody needs to wait for it again.
      state.isParked = state.command == .stop
      return state.command != .stop
    }
  }
}
