import GuestDirtyLog

extension MigrationSource {
  /// Waits until the destination has everything, tells it to start, waits until it runs, lets the
  /// devices and the tracking go. One-way, everything written is everything there is to know.
  public func finish() throws(MigrationError) -> MigrationReport {
    precondition(phase == .finish, "finish comes after stopAndCopy")
    if link?.answers != nil {
      try attempt(.finish) { () throws(MigrationError.Cause) in
        let began = clock()
        try expect(.loaded)
        report.downtime.loadedNanoseconds = clock() &- began
        observer?.migration(.starting)
        try checkInterruptions()
        // A write that fails was not whole, so the destination does not have this word.
        try write { (writer) throws(ChannelError) in try writer.write(.start) }
      }
      try awaitRunning()
    } else {
      // The end of the bytes is all the other side gets to know.
      link?.channel.shutDown()
    }
    report.downtime.totalNanoseconds = clock() &- stoppedAt
    observer?.migration(.downtimeEnded(report.downtime))
    noteMiss()
    return complete()
  }

  private func awaitRunning() throws(MigrationError) {
    let began = clock()
    do throws(MigrationError.Cause) {
      try expect(.running)
    } catch {
      if case .refused = error {
        // It says itself that it will not run.
        let aftermath = giveUp(error)
        throw MigrationError(phase: .finish, cause: error, aftermath: aftermath)
      }
      isOutcomeUnknown = true
      link?.channel.shutDown()
      var aftermath = MigrationAftermath()
      aftermath.notes = ["devices and vCPUs stay stopped here with their state"]
      observer?.migration(.failed("\(error)"))
      throw MigrationError(
        phase: .finish, cause: .outcomeUnknown("\(error)"), aftermath: aftermath)
    }
    report.downtime.startNanoseconds = clock() &- began
  }

  /// After ``MigrationError/Cause/outcomeUnknown(_:)``, when somebody looked.
  public func resolve(destinationRuns: Bool) -> MigrationAftermath {
    precondition(isOutcomeUnknown, "the outcome is known")
    isOutcomeUnknown = false
    if destinationRuns {
      report.downtime.totalNanoseconds = clock() &- stoppedAt
      _ = complete()
      return MigrationAftermath()
    }
    return giveUp(.cancelled("the destination does not run"))
  }

  private func complete() -> MigrationReport {
    if let consumer { tracking.log.removeConsumer(consumer) }
    take(tracking.stopTracking())
    consumer = nil
    isTracking = false
    // The guest is gone from here: a device that does not stop is a note, not a failure.
    do throws(MigrationError.Cause) {
      try setStatus(.completed)
    } catch {
      note("after the migration: \(error)")
    }
    if let why = releaseThrottle() { note(why) }
    phase = .done
    settle()
    return report
  }

  /// Fills in what the report can only say at the end.
  private func settle() {
    if let writer = link?.writer {
      report.totals = writer.totals
      report.streamBytes = writer.byteCount
    }
    report.totalNanoseconds = clock() &- beganAt
    report.pagesBySource = dirtied(since: sourcesAtBegin)
    signOfLife.attach(nil)
    link = nil
  }

  /// Back to a guest that runs here. Never fails: what could not be done is in the answer.
  func giveUp(_ cause: MigrationError.Cause) -> MigrationAftermath {
    var aftermath = MigrationAftermath()
    let status: MigrationStatus = if case .cancelled = cause { .cancelled } else { .failed }
    if let link, !link.writer.isBroken {
      do throws(ChannelError) {
        try link.writer.write(.abort, text: "\(cause)")
      } catch {
        aftermath.notes.append("the destination was not told: \(error)")
      }
    }
    link?.channel.shutDown()
    if let consumer {
      aftermath.pagesPutBack = tracking.log.putBackAll(for: consumer).dirtyPages
      tracking.log.removeConsumer(consumer)
    }
    // Devices first: a vCPU that runs before its device would find it dead.
    aftermath.devices = recoverDevices(status)
    if isTracking { take(tracking.stopTracking()) }
    if let why = releaseThrottle() { aftermath.notes.append(why) }
    if stoppedVCPUs || (wasRunning && !machine.isRunning) {
      do throws(MachineError) {
        try machine.resumeVCPUs()
        aftermath.vcpusResumed = true
      } catch {
        aftermath.notes.append("\(error)")
      }
    } else {
      aftermath.vcpusResumed = machine.isRunning
    }
    consumer = nil
    isTracking = false
    stoppedVCPUs = false
    phase = .idle
    report.status = status
    settle()
    observer?.migration(.status(status))
    observer?.migration(.failed("\(cause)"))
    return aftermath
  }

  private func recoverDevices(_ status: MigrationStatus) -> [DeviceAftermath] {
    let touched = driver.migration.isUnderWay
    let result = touched ? driver.recoverAll(resumes: wasRunning) : []
    driver.endAttempt(status)
    return result
  }
}
