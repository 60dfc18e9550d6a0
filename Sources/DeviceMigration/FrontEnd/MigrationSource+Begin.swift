import GuestDirtyLog

extension MigrationSource {
  /// Finds blockers, agrees with the destination on what is sent, starts tracking, brings the
  /// devices to pre-copy. On an error everything is as before.
  public func begin(over channel: any ByteChannel) throws(MigrationError) {
    precondition(phase == .idle || phase == .done, "a migration is under way")
    let blockers = blockers
    guard blockers.isEmpty else {
      throw MigrationError(phase: .begin, cause: .blocked(blockers), aftermath: .init())
    }
    reset(for: channel)
    try attempt(.begin) { () throws(MigrationError.Cause) in
      try greet()
      tracking.log.resetAllDirty()
      do throws(GuestDirtyLogError) {
        consumer = try tracking.log.addConsumer(
          "migration to \(channel.name)", startsDirty: true)
      } catch {
        throw .log(error)
      }
      isTracking = true
      take(tracking.startTracking())
      for device in devices {
        device.device.prepareToSave(byteCountMax: policy.chunkByteCountMax)
      }
      try setStatus(.setup)
      estimator.walked(driver.stepNanoseconds)
      try setStatus(.active)
    }
    phase = .rounds
  }

  private func reset(for channel: any ByteChannel) {
    phase = .begin
    report = MigrationReport()
    report.devices = devices.map {
      .init(name: $0.device.name, interface: $0.device.interface, states: [$0.device.state])
    }
    cancellation.reset()
    let answers = channel.isBidirectional ? StreamReader(channel) : nil
    link = Link(channel: channel, writer: StreamWriter(channel), answers: answers)
    wasRunning = machine.isRunning
    driver.vmIs(wasRunning ? .running : .paused)
    stoppedVCPUs = false
    wasResumedMeanwhile = false
    failedFromOutside = false
    isOutcomeUnknown = false
    pace = PaceMeter()
    estimator = DowntimeEstimator()
    pinging = Pinging()
    hasNotedStall = false
    throttledPercent = 0
    cannotThrottle = false
    lastLookReturnCount = 0
    report.downtimeLimitNanoseconds = policy.downtimeLimitNanoseconds
    sizeJudges = devices.map { _ in DeviceSizeJudge() }
    rehearsalsLeft = policy.rehearsedSendFailureCount
    beganAt = clock()
    sourcesAtBegin = log.pagesBySource
  }

  private func greet() throws(MigrationError.Cause) {
    let hello = StreamHello(
      regions: log.regions, devices: devices.map(\.device), wantsAnswers: link?.answers != nil,
      token: token)
    try write { (writer) throws(ChannelError) in
      try writer.begin()
      try writer.write(.hello, payload: hello.encoded())
    }
    if link?.answers != nil {
      let asked = clock()
      let accepted = try expect(.accepted, opens: true)
      pinging = Pinging(
        isAnswered: accepted.argument & StreamFormat.acceptsPings != 0,
        acceptedNanoseconds: clock() &- asked)
    }
    link?.writer.line.setRoomForSigns(true)
    signOfLife.attach(link?.writer.line)
  }

  /// Reads the next answer.
  /// - Parameter opens: it is the first.
  @discardableResult
  func expect(
    _ kind: StreamSectionKind, opens: Bool = false
  ) throws(MigrationError.Cause) -> StreamSection {
    guard let answers = link?.answers else { preconditionFailure("one-way: there is no answer") }
    let refusal: String?
    let section: StreamSection
    do throws(StreamError) {
      if opens { try answers.begin() }
      section = try answers.nextSection()
      let isRefusal = section.kind == .refused || section.kind == .failed
      refusal = isRefusal ? try answers.readText(of: section) : nil
      guard isRefusal || (section.kind == kind && section.payloadByteCount == 0) else {
        throw StreamError(
          .unexpected(section.kind, "the answer awaited is \(kind)"),
          offset: answers.sectionOffset)
      }
    } catch {
      if case .channel(let error) = error.reason, let reason = cancellation.requested,
        error.reason != .timedOut
      {
        throw .cancelled(reason)
      }
      throw .stream(error)
    }
    if let refusal { throw .refused(refusal) }
    return section
  }

  /// After a write failed: what the destination said before it hung up, if it did.
  func refusal(behind error: ChannelError) -> MigrationError.Cause? {
    guard error.reason == .failed || error.reason == .ended, phase != .begin,
      let answers = link?.answers, let section = try? answers.nextSection(),
      section.kind == .failed || section.kind == .refused,
      let text = try? answers.readText(of: section)
    else { return nil }
    return .refused(text)
  }

  func take(_ sync: SyncReport) {
    report.backendCallCount &+= sync.backendCallCount
    report.mappingCallCount &+= sync.mappingCallCount
    for sentence in sync.notes { note(sentence) }
  }

  /// Newly dirty pages by source since `before`.
  func dirtied(since before: [DirtySource: UInt64]) -> [DirtySource: UInt64] {
    var result: [DirtySource: UInt64] = [:]
    for (source, count) in log.pagesBySource {
      let more = count &- (before[source] ?? 0)
      if more > 0 { result[source] = more }
    }
    return result
  }
}
