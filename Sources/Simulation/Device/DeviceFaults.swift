public import DeviceMigration
import Locking

/// One thing that goes wrong in a simulated device.
public enum DeviceFault: Hashable, Sendable {
  /// The call is refused and has no effect.
  case refuse(DeviceErrno)
  /// The call has its effect and then fails.
  case failAfterwards(DeviceErrno)
  /// The call fails and the device is in ERROR from then on.
  case breakDown(DeviceErrno)
  /// The call answers and the answer is wrong: sizes past what there is, an offset outside the
  /// region. A call without an answer to lie in is refused with EIO.
  case lie
}

/// Which calls of a simulated device fail: counted from 0 over all calls of its interface and its
/// sessions, resets not counted. One object may serve several devices.
public final class DeviceFaults: Sendable {
  private struct Plan {
    var callCount = 0
    var faults: [Int: DeviceFault] = [:]
    var failingResets = 0
  }

  private let plan = Mutex(Plan())

  public init() {}

  /// Calls made so far.
  public var callCount: Int { plan.withLock { $0.callCount } }

  /// The call that comes after `callCount` more goes wrong.
  public func plan(_ fault: DeviceFault, afterCalls callCount: Int) {
    plan.withLock { $0.faults[$0.callCount + callCount] = fault }
  }

  /// The next `count` resets fail with EIO.
  public func failResets(_ count: Int) { plan.withLock { $0.failingResets = count } }

  func nextCall() -> DeviceFault? {
    plan.withLock {
      let fault = $0.faults.removeValue(forKey: $0.callCount)
      $0.callCount += 1
      return fault
    }
  }

  func resetFails() -> Bool {
    plan.withLock {
      guard $0.failingResets > 0 else { return false }
      $0.failingResets -= 1
      return true
    }
  }
}
