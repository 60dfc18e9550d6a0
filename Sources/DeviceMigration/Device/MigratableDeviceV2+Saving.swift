import Locking

extension MigratableDeviceV2 {
  public func prepareToSave(byteCountMax: Int) {
    scratch.prepare(min(byteCountMax, DeviceChunk.byteCountMax))
  }

  public func beginPrecopy() throws(DeviceError) {
    if let error = refresh() { throw error }
    course.begin()
    switch course.state {
    case .stop: return
    case .running, .runningP2P:
      guard table.supports(.precopy) else { return }
      // A device that has no such word, or fails to take it, goes on without: its initial data only
      // falls.
      saysRestarts.withLock { $0 = (try? migration.enablePrecopyRestarts()) ?? false }
      try move(to: .precopy)
    default: throw wrongState("begin pre-copy")
    }
  }

  public func nextChunk(
    into buffer: inout [UInt8], byteCountMax: Int
  ) throws(DeviceError) -> ChunkOutcome {
    precondition(byteCountMax > 0, "a chunk of no bytes was asked for")
    buffer.removeAll(keepingCapacity: true)
    let state = course.state
    guard state.isSaving else { return .drainedForNow }
    if course.hasEnded { return .end }
    guard let session else {
      throw wrongState("read state", detail: "no data session is open")
    }
    let asked = min(byteCountMax, DeviceChunk.byteCountMax)
    let outcome: ReadOutcome
    do throws(DeviceError) {
      outcome = try scratch.read(asked, into: &buffer) { (span) throws(DeviceError) in
        let outcome = try session.read(into: &span)
        if case .bytes(let count) = outcome, (1...asked).contains(count) { return (outcome, count) }
        return (outcome, 0)
      }
    } catch {
      throw located(error)
    }
    switch outcome {
    case .bytes(let count) where buffer.isEmpty:
      throw broken("\(count) bytes came of \(asked) asked for")
    case .bytes: return .chunk
    case .temporaryEnd where state == .stopCopy:
      throw broken("in STOP_COPY there is no temporary end", errno: .enomsg)
    case .end where state == .stopCopy:
      course.hasEnded = true
      return .end
    case .temporaryEnd, .end: return .drainedForNow
    }
  }

  private func broken(_ detail: String, errno: DeviceErrno = .none) -> DeviceError {
    located(
      DeviceError(
        .protocolBroken, object: name, operation: "read state", errno: errno, detail: detail))
  }

  public func pendingEstimate() -> PendingEstimate {
    guard interface.isMigratable else { return .unknown }
    let precopy = precopyEstimate()
    return PendingEstimate(
      precopyInitialBytes: precopy.precopyInitialBytes,
      precopyDirtyBytes: precopy.precopyDirtyBytes,
      // A device that has no such number, or fails, does not say: that is an answer.
      stopCopyBytes: try? migration.stopCopyByteCount(),
      initialDataRestarted: precopy.initialDataRestarted)
  }

  public func precopyEstimate() -> PendingEstimate {
    // A device that fails to answer does not say, as in `pendingEstimate`.
    guard course.state.isPrecopy, let info = try? session?.precopyInfo() else { return .unknown }
    return PendingEstimate(
      precopyInitialBytes: info.initialBytes, precopyDirtyBytes: info.dirtyBytes,
      initialDataRestarted: info.initialDataRestarted && saysRestarts.withLock { $0 })
  }

  public func enterP2P() throws(DeviceError) {
    switch course.state {
    case .running where table.supports(.runningP2P): try move(to: .runningP2P)
    case .precopy where table.supports(.precopyP2P): try move(to: .precopyP2P)
    case .running, .precopy, .runningP2P, .precopyP2P, .stop: return
    case .error, .stopCopy, .resuming: throw wrongState("enter P2P")
    }
  }

  public func leaveP2P() throws(DeviceError) {
    switch course.state {
    case .precopyP2P: try move(to: .precopy)
    case .runningP2P: try move(to: .running)
    default: return
    }
  }

  public func beginStopCopy() throws(DeviceError) {
    switch course.state {
    case .running, .runningP2P, .precopy, .precopyP2P, .stop: try move(to: .stopCopy)
    case .error, .stopCopy, .resuming: throw wrongState("begin stop-and-copy")
    }
  }

  public func finishSaving() throws(DeviceError) {
    guard course.state == .stopCopy else { throw wrongState("finish saving") }
    guard course.hasEnded else {
      throw wrongState("finish saving", detail: "the end of its state has not been read")
    }
    try move(to: .stop)
  }

  public func stop() throws(DeviceError) {
    switch course.state {
    case .stop: return
    case .running, .runningP2P: try move(to: .stop)
    default: throw wrongState("stop", detail: "a migration is under way")
    }
  }

  public var hasConfiguration: Bool { configuration != nil }

  public func saveConfiguration() throws(DeviceError) -> [UInt8]? {
    try savedConfiguration()
  }
}
