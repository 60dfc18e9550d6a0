import Addressing
import GuestDirtyLog

extension MigrationSource {
  /// Stops the guest and sends the rest: vCPUs, then all devices to P2P, then all to STOP_COPY,
  /// then the final sync, the last pages, device data to its end, configuration, and whatever is
  /// dirty even then.
  /// - Returns: false when a device had new initial data by then: the guest runs again, and rounds
  ///   are next.
  public func stopAndCopy() throws(MigrationError) -> Bool {
    precondition(phase == .rounds, "stopAndCopy comes after begin")
    phase = .stopAndCopy
    let isStopped = try attempt(.stopAndCopy) { () throws(MigrationError.Cause) -> Bool in
      try checkInterruptions()
      noteStopAnyway()
      observer?.migration(.stopping(report.prediction))
      stoppedAt = clock()
      try stopEverything()
      guard !driver.isHeldInP2P else {
        try returnToRounds()
        observer?.migration(.returnedToRounds)
        return false
      }
      try setStatus(.device)
      try sendLastPages()
      try sendDevices()
      try sendMachine()
      try sendLatePages()
      let now = clock()
      try write { (writer) throws(ChannelError) in try writer.writeTotals() }
      report.downtime.stateNanoseconds &+= clock() &- now
      return true
    }
    phase = isStopped ? .finish : .rounds
    return isStopped
  }

  private func stopEverything() throws(MigrationError.Cause) {
    if machine.isRunning {
      stoppedVCPUs = true
      do throws(MachineError) {
        try machine.stopVCPUs()
      } catch {
        throw .machine(error)
      }
    }
    let stopped = clock()
    try onDevices { (driver) throws(DeviceError) in try driver.vmStateChanged(.finishMigrate) }
    estimator.walked(driver.stepNanoseconds)
    report.downtime.p2pNanoseconds = driver.preparedNanoseconds
    report.downtime.stopCopyNanoseconds = driver.finishedNanoseconds
    // A VMM that told of the change from inside its call had the devices stopped by then.
    let walks = report.downtime.p2pNanoseconds &+ report.downtime.stopCopyNanoseconds
    let sinceStop = clock() &- stopped
    let before = stopped &- stoppedAt
    report.downtime.stopVCPUsNanoseconds =
      sinceStop >= walks ? before : before &- min(before, walks)
    try checkInterruptions()
  }

  private func sendLastPages() throws(MigrationError.Cause) {
    let began = clock()
    var round = MigrationRound()
    round.number = report.rounds.count + 1
    round.isFinal = true
    round.pageByteCount = log.pageSize.bytes
    pace = PaceMeter()
    let before = log.pagesBySource
    let bytesBefore = link?.writer.byteCount ?? 0
    round.sync = tracking.sync(isFinal: true)
    take(round.sync)
    let synced = clock()
    round.syncNanoseconds = synced &- began
    round.backendCallCount = round.sync.backendCallCount
    round.mappingCallCount = round.sync.mappingCallCount
    report.downtime.finalSyncNanoseconds = round.syncNanoseconds
    resentBecause = nil
    resendWhereMarked()
    // Of the last pass: what is dropped earlier may be written, and so be sent, again.
    if omitting.contains(.putBack) { rehearsalsLeft += 1 }
    round.remainingBytesAtBegin = dirtyBytes
    observer?.migration(
      .roundBegan(number: round.number, remainingBytes: round.remainingBytesAtBegin))
    try write { (writer) throws(ChannelError) in try writer.write(.stopped) }
    try sendPages(in: &round) { (_) throws(MigrationError.Cause) in }
    round.sentBytes = (link?.writer.byteCount ?? 0) &- bytesBefore
    round.nanoseconds = clock() &- began
    round.dirtiedPages = dirtied(since: before)
    round.remainingBytesAtEnd = dirtyBytes
    round.bandwidthBytesPerSecond = pace.bytesPerSecond ?? lastBandwidth
    report.downtime.pagesNanoseconds = clock() &- synced
    report.downtime.pagesBytes = round.sentBytes
    report.rounds.append(round)
    observer?.migration(.roundEnded(round, .stop))
  }

  /// A mark that stays: whatever was reported clean since it was set may have been written.
  private func resendWhereMarked() {
    guard let reason = log.allDirtyReason, reason != resentBecause else { return }
    resentBecause = reason
    note("everything is sent again: \(reason)")
    tracking.log.markEverything(by: .conservative(nil))
  }

  /// Passes over pages that are reported after the final sync, before something is taken to be
  /// running still.
  private static let latePassCountMax = 8

  /// Nobody should write now. What was reported all the same (by a device in user space as it was
  /// saved, or late) goes along: no page may be dirty when the stream is complete.
  private func sendLatePages() throws(MigrationError.Cause) {
    // Also one that was set after the final sync.
    resendWhereMarked()
    guard dirtyBytes > 0, var round = report.rounds.last else { return }
    let began = clock()
    let bytesBefore = link?.writer.byteCount ?? 0
    var passes = 0
    while dirtyBytes > 0 {
      guard passes < Self.latePassCountMax else {
        throw .writtenAfterStop(pages: dirtyBytes >> log.pageSize.shift)
      }
      passes += 1
      try sendPages(in: &round) { (_) throws(MigrationError.Cause) in }
    }
    let sent = (link?.writer.byteCount ?? 0) &- bytesBefore
    round.sentBytes &+= sent
    round.remainingBytesAtEnd = 0
    report.rounds[report.rounds.count - 1] = round
    report.downtime.pagesBytes &+= sent
    report.downtime.pagesNanoseconds &+= clock() &- began
  }

  private func sendDevices() throws(MigrationError.Cause) {
    for index in devices.indices {
      let began = clock()
      let device = devices[index].device
      hasEnded = false
      while !hasEnded {
        try checkInterruptions()
        guard let count = try sendChunk(of: index) else {
          guard hasEnded else {
            throw .device(
              DeviceError(
                .protocolBroken, object: device.name, operation: "read of device data",
                detail: "no data and no end in \(device.state)"))
          }
          break
        }
        report.devices[index].stopCopyBytes &+= UInt64(count)
        report.downtime.deviceBytes &+= UInt64(count)
      }
      let chunks = report.devices[index].chunks
      try write { (writer) throws(ChannelError) in
        try writer.write(.deviceEnd, argument: chunks, count: UInt32(index))
      }
      let ended = clock()
      report.downtime.deviceNanoseconds &+= ended &- began
      try sendConfiguration(of: index)
      report.downtime.stateNanoseconds &+= clock() &- ended
    }
  }

  private func sendConfiguration(of index: Int) throws(MigrationError.Cause) {
    let saved: [UInt8]?
    do throws(DeviceError) {
      saved = try devices[index].device.saveConfiguration()
    } catch {
      throw .device(error)
    }
    guard let saved else { return }
    report.devices[index].configurationBytes = saved.count
    try write { (writer) throws(ChannelError) in
      try writer.write(.deviceConfiguration, count: UInt32(index), payload: saved)
    }
  }

  private func sendMachine() throws(MigrationError.Cause) {
    let began = clock()
    let state: [UInt8]
    do throws(MachineError) {
      state = try machine.saveState()
    } catch {
      throw .machine(error)
    }
    guard state.count <= StreamFormat.machineStateByteCountMax else {
      throw .machine(
        MachineError(
          operation: "be sent", detail: "\(state.count) bytes of state are over the limit"))
    }
    var offset = 0
    repeat {
      let end = min(offset + (1 << 20), state.count)
      let piece = Array(state[offset..<end])
      let start = UInt64(offset)
      try write { (writer) throws(ChannelError) in
        try writer.write(
          .machineState, argument: start, count: end == state.count ? 1 : 0, payload: piece)
      }
      offset = end
    } while offset < state.count
    report.downtime.stateNanoseconds &+= clock() &- began
  }
}
