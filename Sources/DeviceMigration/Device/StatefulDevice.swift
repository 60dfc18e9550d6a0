/// What the devices of both protocols share: they stand in a state, may leave it by a move that
/// fails half way, and are brought back.
protocol StatefulDevice: MigratableDevice {
  var configuration: PCIConfiguration? { get }
  var course: DeviceCourse { get }

  /// Asks the device for its state; one that does not say, or means nothing, counts as ERROR.
  @discardableResult func refresh() -> DeviceError?
  /// Brings the device to `target`, or throws and knows where it is instead.
  func move(to target: DeviceState) throws(DeviceError)
  /// Gives up what was being read: nobody wants the rest.
  func abandonData()
  /// VFIO_DEVICE_RESET.
  func resetDevice() throws(DeviceError)
}

extension StatefulDevice {
  func wrongState(_ operation: String, detail: String = "") -> DeviceError {
    DeviceError(
      .wrongState(course.state), object: name, operation: operation,
      detail: detail.isEmpty ? "the device is in \(course.state)" : detail,
      outcome: "it stays in \(course.state)")
  }

  /// A call failed or answered nonsense: says where the device is.
  func located(_ error: DeviceError) -> DeviceError {
    let silent = refresh() != nil
    return error.with(
      outcome: silent
        ? "the device does not say where it is and counts as ERROR"
        : "the device is in \(course.state)")
  }

  func savedConfiguration() throws(DeviceError) -> [UInt8]? {
    guard let configuration else { return nil }
    guard course.state == .stop || course.state == .stopCopy else {
      throw wrongState("save the PCI configuration")
    }
    return try configuration.save(deviceName: name)
  }

  func takeConfiguration(_ bytes: RawSpan) throws(DeviceError) {
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

  /// Back to RUNNING, by a reset where the device has another's state or does not go by itself.
  func broughtBack() throws(DeviceError) -> DeviceRecovery {
    guard interface.isMigratable else { return .running }
    let silent = refresh()
    if course.isLoaded { return try reset(because: silent) }
    if let silent { return try reset(because: silent) }
    if course.state == .running {
      abandonData()
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
    abandonData()
    do throws(DeviceError) {
      try resetDevice()
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
