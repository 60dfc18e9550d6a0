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
    try takeConfiguration(bytes)
  }

  public func recover() throws(DeviceError) -> DeviceRecovery { try broughtBack() }
}
