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
    guard let configuration else {
      throw DeviceError(
        .interfaceMissing, object: name, operation: "restore the PCI configuration",
        detail: "the device is not on PCI", outcome: "nothing was written")
    }
    guard course.state == .resuming || course.state == .stop else {
      throw wrongState("restore the PCI configuration")
    }
    try configuration.restore(bytes, deviceName: name)
  }

  public func recover() throws(DeviceError) -> DeviceRecovery {
    guard interface.isMigratable else { return .running }
    let silent = refresh()
    if course.isLoaded { return try reset(because: silent) }
    if let silent { return try reset(because: silent) }
    if course.state == .running { return .running }
    do throws(DeviceError) {
      try move(to: .running)
      return .running
    } catch {
      return course.state == .running ? .running : try reset(because: error)
    }
  }

  private func reset(because cause: DeviceError?) throws(DeviceError) -> DeviceRecovery {
    unfinished.withLock { $0 = nil }
    do throws(DeviceError) {
      try migration.reset()
    } catch {
      refresh()
      throw notRecovered(error)
    }
    let silent = refresh()
    guard silent == nil, course.state == .running else {
      throw notRecovered(silent ?? wrongState("VFIO_DEVICE_RESET"))
    }
    course.owned()
    return .reset(because: cause)
  }

  private func notRecovered(_ error: DeviceError) -> DeviceError {
    DeviceError(
      .notRecovered, object: name, operation: "VFIO_DEVICE_RESET", errno: error.errno,
      detail: error.detail, outcome: "the device is lost until it is plugged in anew")
  }
}
