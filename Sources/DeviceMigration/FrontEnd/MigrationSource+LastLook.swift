import Addressing

/// Initial data of a device can begin again at any time (`VFIO_PRECOPY_INFO_REINIT`), also between
/// the decision to stop and the stop: a guest that reconfigures its device in that moment would
/// stand still while the new data is sent and loaded. So the devices are asked once more when no
/// vCPU runs and no device starts DMA to another, and where something came up the guest runs on.
extension MigrationSource {
  /// Guests brought back by a last look, in one attempt: after these the guest is stopped all the
  /// same, and the note says so.
  static let lastLookReturnCountMax = 3

  /// Whether the devices go on to STOP_COPY. Called between the two walks.
  func mayStopDevices() -> Bool {
    // A VMM that stops the guest by itself has decided.
    guard phase == .stopAndCopy else { return true }
    var fresh: [(name: String, bytes: UInt64)] = []
    for index in devices.indices {
      let estimate = judged(devices[index].device.precopyEstimate(), of: index)
      if let bytes = estimate.precopyInitialBytes, bytes > 0 {
        fresh.append((devices[index].device.name, bytes))
      }
    }
    guard !fresh.isEmpty else { return true }
    let claims = fresh.map { "device \($0.name) has \($0.bytes) initial bytes" }
      .joined(separator: ", ")
    // A stop that was not to wait for such data before does not wait for it now.
    let isPromised = report.stopReason == .stop || report.stopReason == .stopOnLowerBound
    guard isPromised, lastLookReturnCount < Self.lastLookReturnCountMax else {
      note("\(claims) after the vCPUs have stopped: they go with the rest, and the guest waits")
      return true
    }
    lastLookReturnCount += 1
    note("\(claims) after the vCPUs had stopped: the guest ran on for another round")
    return false
  }

  /// From a stop that did not go through back to the rounds: devices first, then vCPUs.
  func returnToRounds() throws(MigrationError.Cause) {
    try onDevices { (driver) throws(DeviceError) in try driver.leaveP2P() }
    if stoppedVCPUs {
      do throws(MachineError) {
        try machine.resumeVCPUs()
      } catch {
        throw .machine(error)
      }
      stoppedVCPUs = false
    }
    report.returnedNanoseconds &+= clock() &- stoppedAt
    report.downtime = DowntimeMeasured()
    report.stopReason = nil
  }
}
