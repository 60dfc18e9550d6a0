import Locking

/// What a companion's thread and its owner's threads both reach. Its locks are leaves: nothing is
/// called while one is held.
final class CompanionShared: Sendable {
  let log: SharedDirtyLog
  let core = Mutex(CompanionCore())
  let ram = Mutex(RAMTable())
  let refusedFrontEndCount = Mutex(0)
  private let isEnding = Mutex(false)
  private let wake: OwnedDescriptor

  init(wake: OwnedDescriptor, acceptsUnsealedLog: Bool) {
    self.wake = wake
    log = SharedDirtyLog(acceptsUnsealed: acceptsUnsealedLog)
  }

  var wakeDescriptor: Int32 { wake.number }

  var shouldEnd: Bool { isEnding.withLock { $0 } }

  /// - Returns: whether this was the first call.
  func end() -> Bool {
    let isFirst = isEnding.withLock { (isEnding: inout Bool) -> Bool in
      defer { isEnding = true }
      return !isEnding
    }
    SocketCalls.wake(wake.number)
    return isFirst
  }
}
