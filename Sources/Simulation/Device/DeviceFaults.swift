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

/// What a simulated device says about how much state it has, all the time, in place of the truth.
public enum DeviceSizeClaim: Hashable, Sendable {
  /// As firmware has answered: 2^64 - 843575 initial bytes.
  case impossible
  /// Initial data that is never read to its end, whatever is read.
  case neverFalls(UInt64)
  /// Each answer is larger by this than the one before.
  case rises(UInt64)
}

/// Which calls of a simulated device fail: counted from 0 over all calls of its interface and its
/// sessions, resets not counted. One object may serve several devices.
public final class DeviceFaults: Sendable {
  private struct Plan {
    var callCount = 0
    var faults: [Int: DeviceFault] = [:]
    var failingResets = 0
    var claim: DeviceSizeClaim?
    var claimCount: UInt64 = 0
    var restarts = 0
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

  /// Every device of these faults claims sizes like this from now on; nil: says the truth.
  public func claim(_ claim: DeviceSizeClaim?) { plan.withLock { $0.claim = claim } }

  /// The next `count` times a device of these faults is asked how much it has left in pre-copy, and
  /// all of its initial data has been read, its guest has just reconfigured it: the initial data
  /// begins again. Only in devices that were told that they may say so.
  public func restartInitialData(_ count: Int) { plan.withLock { $0.restarts = count } }

  func restartsNow() -> Bool {
    plan.withLock {
      guard $0.restarts > 0 else { return false }
      $0.restarts -= 1
      return true
    }
  }

  /// What the device answers where `truth` bytes are left.
  func claimed(_ truth: UInt64) -> UInt64 {
    plan.withLock { plan in
      switch plan.claim {
      case nil: return truth
      case .impossible: return UInt64.max - 843_574
      case .neverFalls(let bytes): return max(truth, bytes)
      case .rises(let step):
        plan.claimCount += 1
        return truth &+ plan.claimCount &* step
      }
    }
  }

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
