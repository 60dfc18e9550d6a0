extension MigratableDeviceV2 {
  public func beginResuming() throws(DeviceError) {
    if let error = refresh() { throw error }
    course.begin()
    switch course.state {
    case .running, .runningP2P, .stop: try move(to: .resuming)
    default: throw wrongState("begin resuming")
    }
  }

  public func load(_ chunk: RawSpan) throws(DeviceError) {
    guard course.state == .resuming else { throw wrongState("load state") }
    guard let session else {
      throw wrongState("load state", detail: "no data session is open")
    }
    var offset = 0
    while offset < chunk.byteCount {
      let rest = chunk.extracting(offset..<chunk.byteCount)
      let taken: Int
      do throws(DeviceError) { taken = try session.write(rest) } catch { throw located(error) }
      guard (1...rest.byteCount).contains(taken) else {
        throw located(
          DeviceError(
            .protocolBroken, object: name, operation: "load state",
            detail: "it took \(taken) bytes of \(rest.byteCount) offered"))
      }
      offset += taken
    }
  }

  public func finishResuming() throws(DeviceError) {
    guard course.state == .resuming else { throw wrongState("finish resuming") }
    try move(to: .stop)
  }

  public func prepareToRun() throws(DeviceError) {
    guard table.supports(.runningP2P), course.state != .running else { return }
    try move(to: .runningP2P)
  }

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
    if course.state == .running {
      hold(nil)
      return .running
    }
    do throws(DeviceError) {
      try move(to: .running)
      return .running
    } catch {
      return course.state == .running ? .running : try reset(because: error)
    }
  }

  private func reset(because cause: DeviceError?) throws(DeviceError) -> DeviceRecovery {
    hold(nil)
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
