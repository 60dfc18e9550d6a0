import Locking

extension MigratableDeviceV1 {
  public func beginResuming() throws(DeviceError) {
    if let error = refresh() { throw error }
    course.begin()
    switch course.state {
    case .running, .stop: try move(to: .resuming)
    default: throw wrongState("begin resuming")
    }
  }

  public func load(_ chunk: RawSpan) throws(DeviceError) {
    guard course.state == .resuming else { throw wrongState("load state") }
    if chunk.isEmpty { return }
    do throws(DeviceError) {
      let offset = try migration.readDataOffset()
      _ = try checkedByteCount(
        offset: offset, byteCount: UInt64(chunk.byteCount), operation: "load state")
      try migration.writeData(chunk, atRegionOffset: offset)
      try migration.writeDataSize(UInt64(chunk.byteCount))
    } catch {
      throw located(error)
    }
  }

  /// The device checks what it was given when it runs; until then it stays RESUMING.
  public func finishResuming() throws(DeviceError) {
    guard course.state == .resuming else { throw wrongState("finish resuming") }
  }

  /// v1 has no state between.
  public func prepareToRun() throws(DeviceError) {}

  public func run() throws(DeviceError) {
    try move(to: .running)
    course.owned()
  }

  public func restoreConfiguration(_ bytes: RawSpan) throws(DeviceError) {
    try takeConfiguration(bytes)
  }

  public func recover() throws(DeviceError) -> DeviceRecovery { try broughtBack() }
}
