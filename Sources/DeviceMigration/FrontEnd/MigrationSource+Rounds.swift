import Addressing
import GuestDirtyLog

extension MigrationSource {
  /// One pass over what is dirty, device data between batches, then a sync. Says what is next.
  public func round() throws(MigrationError) -> MigrationDecision {
    precondition(phase == .rounds, "rounds come between begin and stopAndCopy")
    return try attempt(.rounds) { () throws(MigrationError.Cause) in
      let number = report.rounds.count + 1
      var round = openRound(number)
      pace = PaceMeter()
      try write { (writer) throws(ChannelError) in
        try writer.write(.roundBegin, argument: UInt64(number))
      }
      var budget = [UInt64](
        repeating: policy.devicePrecopyRoundBytesMax, count: devices.count)
      try sendPages(in: &round) { (round) throws(MigrationError.Cause) in
        try self.sendPrecopyChunks(in: &round, &budget, everything: false)
      }
      try sendPrecopyChunks(in: &round, &budget, everything: true)
      try write { (writer) throws(ChannelError) in
        try writer.write(.roundEnd, argument: UInt64(number))
      }
      return try close(&round)
    }
  }

  private func openRound(_ number: Int) -> MigrationRound {
    var round = MigrationRound()
    round.number = number
    round.pageByteCount = log.pageSize.bytes
    round.remainingBytesAtBegin = dirtyBytes
    openedAt = clock()
    openedBytes = link?.writer.byteCount ?? 0
    sourcesAtRound = log.pagesBySource
    observer?.migration(.roundBegan(number: number, remainingBytes: round.remainingBytesAtBegin))
    return round
  }

  private func close(
    _ round: inout MigrationRound
  ) throws(MigrationError.Cause) -> MigrationDecision {
    let answerNanoseconds = try measureAnswers()
    let syncBegan = clock()
    round.sync = tracking.sync(isFinal: false)
    let now = clock()
    take(round.sync)
    round.syncNanoseconds = now &- syncBegan
    round.backendCallCount = round.sync.backendCallCount
    round.mappingCallCount = round.sync.mappingCallCount
    round.dirtiedPages = dirtied(since: sourcesAtRound)
    round.remainingBytesAtEnd = dirtyBytes
    round.nanoseconds = now &- openedAt
    round.sentBytes = (link?.writer.byteCount ?? 0) &- openedBytes
    round.bandwidthBytesPerSecond = pace.bytesPerSecond ?? lastBandwidth
    estimator.roundEnded(observation(round, answerNanoseconds))
    let (prediction, waits) = predict()
    round.prediction = prediction
    report.rounds.append(round)
    report.prediction = prediction
    let decision = MigrationDecision.after(
      rounds: round.number, stalledRounds: report.roundsWithoutProgress, prediction,
      waitsForInitialData: waits, policy: policy)
    observer?.migration(.roundEnded(round, decision))
    try checkInterruptions()
    if case .giveUp(let rounds) = decision {
      throw .notConverging(rounds: rounds, predicted: prediction)
    }
    report.stopReason = decision == .anotherRound ? nil : decision
    roundFollowed(by: decision, waitsForInitialData: waits)
    return decision
  }

  private func observation(
    _ round: MigrationRound, _ answerNanoseconds: UInt64?
  ) -> DowntimeEstimator.Observation {
    var seen = DowntimeEstimator.Observation()
    seen.syncNanoseconds = round.syncNanoseconds
    seen.answerNanoseconds = answerNanoseconds
    seen.bytesPerSecond = pace.isTelling ? pace.bytesPerSecond : nil
    seen.scantBytesPerSecond = pace.isTelling ? nil : pace.bytesPerSecond
    seen.deviceBytesPerSecond = pace.deviceBytesPerSecond
    seen.dirtyBytesPerSecond = round.dirtyRateBytesPerSecond
    return seen
  }

  /// Whether a device has data of its first pass left, too.
  func predict() -> (DowntimePrediction, waitsForInitialData: Bool) {
    var prediction = DowntimePrediction()
    var waits = false
    prediction.dirtyBytes = dirtyBytes
    prediction.heldBackBytes = tracking.heldBackPageCount &<< log.pageSize.shift
    for index in devices.indices {
      let estimate = judged(devices[index].device.pendingEstimate(), of: index)
      sizeJudges[index].roundEnded(initialBytes: estimate.precopyInitialBytes)
      // A device counts what it gives in stop-and-copy without what it says is readable now, or
      // with it: the larger figure is the nearer one in either case.
      let bytes = max(estimate.stopCopyBytes ?? 0, estimate.precopyBytes ?? 0)
      prediction.deviceBytes = prediction.deviceBytes.addingSaturating(bytes)
      if estimate.stopCopyBytes == nil {
        prediction.devicesWithoutEstimate.append(devices[index].device.name)
      }
      if let initial = estimate.precopyInitialBytes, initial > 0 { waits = true }
    }
    estimator.apply(to: &prediction)
    return (prediction, waits)
  }

  /// Of the last round that sent enough to tell; 0 when none did.
  var lastBandwidth: UInt64 { report.rounds.last?.bandwidthBytesPerSecond ?? 0 }

  /// An estimate without the figures that cannot be true; those are noted.
  func judged(_ estimate: PendingEstimate, of index: Int) -> PendingEstimate {
    let result = sizeJudges[index].judge(estimate, atNanoseconds: clock())
    for doubt in sizeJudges[index].doubts {
      note(doubt.sentence(device: devices[index].device.name))
    }
    sizeJudges[index].doubts = []
    return result
  }

  var dirtyBytes: UInt64 {
    guard let consumer else { return 0 }
    // Limits.bitmapPageCountMax bounds pages far below an overflow.
    return log.dirtyPageCount(for: consumer) &<< log.pageSize.shift
  }

  /// Sends what is dirty now, and no more than that: what comes meanwhile is the next round's.
  func sendPages(
    in round: inout MigrationRound,
    afterBatch: (inout MigrationRound) throws(MigrationError.Cause) -> Void
  ) throws(MigrationError.Cause) {
    guard let consumer else { preconditionFailure("no attempt is under way") }
    var pagesLeft = log.dirtyPageCount(for: consumer)
    while pagesLeft > 0 {
      try checkInterruptions()
      let began = clock()
      let harvest = tracking.log.harvest(
        for: consumer, pageCountMax: min(pagesLeft, policy.harvestPageCountMax),
        runCountMax: policy.harvestRunCountMax)
      guard harvest.pageCount > 0 else { break }
      if try send(harvest, in: &round, began: began) { pagesLeft &-= harvest.pageCount }
      try afterBatch(&round)
    }
  }

  /// - Returns: false when the send was made to fail, and has to be made again.
  private func send(
    _ harvest: Harvest, in round: inout MigrationRound, began: UInt64
  ) throws(MigrationError.Cause) -> Bool {
    guard let link else { preconditionFailure("no attempt is under way") }
    var sender = PageSender(
      memory: memory, writer: link.writer, refusesContent: rehearsalsLeft > 0)
    var failure: MigrationError.Cause?
    do throws(PageSender.Fault) {
      try sender.send(harvest.runs)
      tracking.log.delivered(harvest)
    } catch {
      switch error {
      case .rehearsed:
        rehearsalsLeft -= 1
        return putBack(harvest)
      case .memoryMissing(let range): failure = .memoryMissing(range)
      case .channel(let error): failure = cause(of: error)
      }
    }
    if let failure {
      // Still in flight: giving up puts it back, and counts it.
      throw failure
    }
    round.contentPages &+= sender.contentPages
    round.zeroPages &+= sender.zeroPages
    if sender.contentPages > 0 {
      pace.sent(
        bytes: sender.contentPages &* UInt64(StreamFormat.pageByteCount),
        nanoseconds: clock() &- began)
    }
    observer?.migration(
      .progress(
        round: round.number, sentBytes: link.writer.byteCount, remainingBytes: dirtyBytes))
    return true
  }

  private func putBack(_ harvest: Harvest) -> Bool {
    if omitting.contains(.putBack) {
      tracking.log.delivered(harvest)
      return true
    }
    tracking.log.putBack(harvest)
    report.pagesPutBack &+= harvest.pageCount
    observer?.migration(.putBack(pages: harvest.pageCount))
    return false
  }

  /// - Parameter everything: until each device is drained, within its budget; otherwise one chunk
  ///   of each.
  private func sendPrecopyChunks(
    in round: inout MigrationRound, _ budget: inout [UInt64], everything: Bool
  ) throws(MigrationError.Cause) {
    for index in devices.indices where devices[index].device.interface.hasPrecopy {
      repeat {
        let device = devices[index].device
        guard device.state.isSaving, budget[index] > 0 else { break }
        // As the device says it: what cannot be true still means that there may be something, and
        // the budget bounds what that costs.
        let estimate = device.precopyEstimate()
        if estimate.initialDataRestarted { sizeJudges[index].initialDataRestarted() }
        guard
          estimate.precopyBytes ?? UInt64.max > policy.devicePrecopyThresholdBytes
            || estimate.precopyInitialBytes ?? 0 > 0
        else { break }
        try checkInterruptions()
        guard let count = try sendChunk(of: index) else { break }
        report.devices[index].precopyBytes &+= UInt64(count)
        round.deviceBytes &+= UInt64(count)
        budget[index] -= min(budget[index], UInt64(count))
      } while everything
    }
  }

  /// - Returns: bytes sent, nil when the device gave nothing.
  func sendChunk(of index: Int) throws(MigrationError.Cause) -> Int? {
    let device = devices[index].device
    let outcome: ChunkOutcome
    let began = clock()
    do throws(DeviceError) {
      outcome = try device.nextChunk(
        into: &chunkBuffer, byteCountMax: min(policy.chunkByteCountMax, DeviceChunk.byteCountMax))
    } catch {
      throw .device(error)
    }
    guard outcome == .chunk else {
      hasEnded = outcome == .end
      return nil
    }
    guard !chunkBuffer.isEmpty, chunkBuffer.count <= DeviceChunk.byteCountMax else {
      throw .device(
        DeviceError(
          .protocolBroken, object: device.name, operation: "read of device data",
          detail: "a chunk of \(chunkBuffer.count) bytes"))
    }
    let payload = chunkBuffer
    let bytes = UInt64(payload.count)
    let isRead = clock()
    pace.read(chunkBytes: bytes, nanoseconds: isRead &- began)
    let number = report.devices[index].chunks
    try write { (writer) throws(ChannelError) in
      try writer.write(
        .deviceChunk, argument: number, count: UInt32(index), payload: payload)
    }
    pace.sent(bytes: bytes, nanoseconds: clock() &- isRead)
    report.devices[index].chunks += 1
    return payload.count
  }
}
