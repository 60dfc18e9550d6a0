import Locking

extension MigratableDeviceV1 {
  public func beginPrecopy() throws(DeviceError) {
    if let error = refresh() { throw error }
    course.begin()
    switch course.state {
    case .stop: return
    case .running: try move(to: .precopy)
    default: throw wrongState("begin pre-copy")
    }
  }

  public func nextChunk(
    into buffer: inout [UInt8], byteCountMax: Int
  ) throws(DeviceError) -> ChunkOutcome {
    buffer.removeAll(keepingCapacity: true)
    guard course.state.isSaving else { return .drainedForNow }
    if course.hasEnded { return .end }
    do throws(DeviceError) {
      if unfinished.withLock({ $0 }) == nil {
        let pending = try migration.readPendingBytes()
        if pending == 0 {
          guard course.state == .stopCopy else { return .drainedForNow }
          course.hasEnded = true
          return .end
        }
        unfinished.withLock { $0 = pending }
      }
      let offset = try migration.readDataOffset()
      let size = try migration.readDataSize()
      let count = try checkedByteCount(
        offset: offset, byteCount: size, operation: "read data_size")
      try scratch.read(count, into: &buffer) { (span) throws(DeviceError) in
        try migration.readData(atRegionOffset: offset, into: &span)
        return ((), count)
      }
    } catch {
      throw located(error)
    }
    unfinished.withLock { $0 = nil }
    return .chunk
  }

  /// `pending_bytes` counts all that is left and is defined while saving only.
  public func pendingEstimate() -> PendingEstimate {
    guard interface.isMigratable, course.state.isSaving else { return .unknown }
    if course.hasEnded { return PendingEstimate(stopCopyBytes: 0) }
    guard let pending = unfinished.withLock({ $0 }) ?? (try? migration.readPendingBytes()) else {
      return .unknown
    }
    return PendingEstimate(
      precopyDirtyBytes: course.state == .precopy ? pending : nil, stopCopyBytes: pending)
  }

  /// v1 has no such state.
  public func enterP2P() throws(DeviceError) {
    switch course.state {
    case .running, .precopy, .stop: return
    default: throw wrongState("enter P2P")
    }
  }

  public func leaveP2P() throws(DeviceError) {}

  public func beginStopCopy() throws(DeviceError) {
    switch course.state {
    case .running, .precopy, .stop: try move(to: .stopCopy)
    default: throw wrongState("begin stop-and-copy")
    }
  }

  public func finishSaving() throws(DeviceError) {
    guard course.state == .stopCopy else { throw wrongState("finish saving") }
    guard course.hasEnded else {
      throw wrongState("finish saving", detail: "bytes may be pending")
    }
    try move(to: .stop)
  }

  public func stop() throws(DeviceError) {
    switch course.state {
    case .stop: return
    case .running: try move(to: .stop)
    default: throw wrongState("stop", detail: "a migration is under way")
    }
  }

  public var hasConfiguration: Bool { configuration != nil }

  public func saveConfiguration() throws(DeviceError) -> [UInt8]? {
    try savedConfiguration()
  }
}
