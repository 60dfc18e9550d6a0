import Addressing
import GuestDirtyLog

extension MigrationDestination {
  func take(_ section: StreamSection) throws(MigrationError.Cause) {
    if section.kind.isAnswer || section.kind == .hello {
      throw refuse(.unexpected(section.kind, "it comes from the other side, or first"))
    }
    if section.kind == .abort {
      throw .sourceAborted(
        try self.section { (reader) throws(StreamError) in try reader.readText(of: section) })
    }
    if section.kind == .alive, stage != .complete { return try expectNoPayload(section) }
    if section.kind == .ping, stage != .complete { return try answer(section) }
    if stage == .complete {
      guard section.kind == .start else { throw refuse(.afterComplete(section.kind)) }
      try expectNoPayload(section)
      return try run()
    }
    switch section.kind {
    case .pages, .zeroPages: try takePages(section)
    case .roundBegin, .roundEnd, .stopped: try takeMark(section)
    case .deviceChunk: try takeChunk(section)
    case .deviceEnd: try takeDeviceEnd(section)
    case .deviceConfiguration: try takeConfiguration(section)
    case .machineState: try takeMachineState(section)
    case .complete: try takeTotals(section)
    default: throw refuse(.unexpected(section.kind, "the stream is not complete"))
    }
  }

  private func expectNoPayload(_ section: StreamSection) throws(MigrationError.Cause) {
    guard section.payloadByteCount == 0 else {
      throw refuse(.malformed(section.kind, "it has a payload"))
    }
  }

  private func answer(_ ping: StreamSection) throws(MigrationError.Cause) {
    try expectNoPayload(ping)
    guard wantsAnswers else { throw refuse(.unexpected(.ping, "the source waits for no answers")) }
    try tell(.pong, argument: walkNanoseconds, count: ping.count)
  }

  private func takeMark(_ section: StreamSection) throws(MigrationError.Cause) {
    try expectNoPayload(section)
    switch (section.kind, stage) {
    case (.roundBegin, .rounds):
      guard section.argument == lastRound &+ 1 else {
        throw refuse(.unexpected(.roundBegin, "round \(lastRound) was the last"))
      }
      lastRound = section.argument
      report.roundCount = lastRound
      stage = .inRound(lastRound)
      observer?.migration(.roundBegan(number: Int(clamping: lastRound), remainingBytes: 0))
    case (.roundEnd, .inRound(let number)) where number == section.argument: stage = .rounds
    case (.stopped, .rounds): stage = .stopped
    default: throw refuse(.unexpected(section.kind, "no such round is under way"))
    }
  }

  private func takePages(_ section: StreamSection) throws(MigrationError.Cause) {
    guard stage == .stopped || stage == .inRound(lastRound) else {
      throw refuse(.unexpected(section.kind, "pages come in a round, or after the stop"))
    }
    let page = UInt64(StreamFormat.pageByteCount)
    let count = UInt64(section.count)
    let first = GPA(section.argument)
    guard count > 0, first.isAligned(to: .fourKiB),
      UInt64(section.payloadByteCount) == (section.kind == .pages ? count * page : 0)
    else { throw refuse(.malformed(section.kind, "its sizes do not fit each other")) }
    // A count has 32 bits, so the product has 44.
    guard let range = GPARange(first: first, byteCount: count * page),
      regions.contains(where: { $0.gpa.contains(range) })
    else { throw refuse(.pageOutsideRAM(first, pageCount: count)) }
    if section.kind == .pages {
      try self.section { (reader) throws(StreamError) in
        try reader.readPayload(of: section, into: self.memory, range: range)
      }
      totals.pages &+= count
    } else {
      guard memory.withMutableBytes(of: range, { Checksum.clear(&$0) }) != nil else {
        throw refuse(.pageOutsideRAM(first, pageCount: count))
      }
      totals.zeroPages &+= count
    }
    arrival?.came(range)
  }

  /// The index of the device a section is about, which must still be loading.
  private func device(_ section: StreamSection) throws(MigrationError.Cause) -> Int {
    guard let index = Int(exactly: section.count), index < incoming.count else {
      throw refuse(.noSuchDevice(index: section.count, deviceCount: incoming.count))
    }
    return index
  }

  private func takeChunk(_ section: StreamSection) throws(MigrationError.Cause) {
    guard stage == .stopped || stage == .inRound(lastRound) else {
      throw refuse(.unexpected(.deviceChunk, "chunks come in a round, or after the stop"))
    }
    let index = try device(section)
    let target = incoming[index].device
    guard !incoming[index].hasEnded else { throw refuse(.deviceEnded(target.name)) }
    guard section.argument == incoming[index].chunks else {
      throw refuse(
        .chunkOutOfOrder(
          device: target.name, expected: incoming[index].chunks, found: section.argument))
    }
    guard section.payloadByteCount > 0 else {
      throw refuse(.malformed(.deviceChunk, "it is empty"))
    }
    try self.section { (reader) throws(StreamError) in
      try reader.readPayload(of: section, into: &self.payload)
    }
    try onDevice { () throws(DeviceError) in
      try ByteAccess.with(payload) { (span) throws(DeviceError) in try target.load(span) }
    }
    incoming[index].chunks &+= 1
    totals.chunks &+= 1
    totals.chunkBytes &+= UInt64(payload.count)
  }

  private func takeDeviceEnd(_ section: StreamSection) throws(MigrationError.Cause) {
    try expectNoPayload(section)
    guard stage == .stopped else {
      throw refuse(.unexpected(.deviceEnd, "the source has not stopped"))
    }
    let index = try device(section)
    let target = incoming[index].device
    guard !incoming[index].hasEnded else { throw refuse(.deviceEnded(target.name)) }
    guard section.argument == incoming[index].chunks else {
      throw refuse(
        .totalsDiffer(
          "device \(target.name) sent \(section.argument) chunks, \(incoming[index].chunks) came"))
    }
    incoming[index].hasEnded = true
    try onDevice { () throws(DeviceError) in try target.finishResuming() }
    observe(target)
  }

  private func takeConfiguration(_ section: StreamSection) throws(MigrationError.Cause) {
    let index = try device(section)
    let target = incoming[index].device
    guard incoming[index].hasEnded, !incoming[index].hasConfiguration else {
      throw refuse(
        .unexpected(.deviceConfiguration, "it comes once, after the end of the device's state"))
    }
    incoming[index].hasConfiguration = true
    try self.section { (reader) throws(StreamError) in
      try reader.readPayload(of: section, into: &self.payload)
    }
    try onDevice { () throws(DeviceError) in
      try ByteAccess.with(payload) { (span) throws(DeviceError) in
        try target.restoreConfiguration(span)
      }
    }
  }

  private func takeMachineState(_ section: StreamSection) throws(MigrationError.Cause) {
    guard stage == .stopped, !hasMachineState else {
      throw refuse(.unexpected(.machineState, "it comes after the stop, and ends once"))
    }
    guard section.argument == UInt64(machineState.count), section.count <= 1 else {
      throw refuse(.malformed(.machineState, "a piece is missing or came twice"))
    }
    guard machineState.count + section.payloadByteCount <= StreamFormat.machineStateByteCountMax
    else {
      throw refuse(
        .oversized(
          byteCount: UInt64(machineState.count + section.payloadByteCount),
          limit: UInt64(StreamFormat.machineStateByteCountMax)))
    }
    try self.section { (reader) throws(StreamError) in
      try reader.readPayload(of: section, into: &self.payload)
    }
    machineState.append(contentsOf: payload)
    hasMachineState = section.count == 1
  }

  private func takeTotals(_ section: StreamSection) throws(MigrationError.Cause) {
    try self.section { (reader) throws(StreamError) in
      try reader.readPayload(of: section, into: &self.payload)
    }
    guard let sent = StreamTotals(payload) else {
      throw refuse(.malformed(.complete, "it does not hold the totals"))
    }
    guard stage == .stopped else {
      throw refuse(.unexpected(.complete, "the source has not stopped"))
    }
    if let missing = incoming.first(where: { !$0.hasEnded }) {
      throw refuse(.totalsDiffer("the state of device \(missing.device.name) has no end"))
    }
    if let bare = incoming.first(where: { !$0.hasConfiguration && $0.device.hasConfiguration }) {
      throw refuse(.totalsDiffer("the configuration of device \(bare.device.name) never came"))
    }
    if let missing = arrival?.missing { throw refuse(.totalsDiffer(missing)) }
    guard hasMachineState else { throw refuse(.totalsDiffer("the machine's state has no end")) }
    guard sent == totals else { throw refuse(.totalsDiffer("\(sent) sent, \(totals) came")) }
    do throws(MachineError) {
      try machine.restoreState(machineState)
    } catch {
      throw .machine(error)
    }
    report.totals = totals
    stage = .complete
    try tell(.loaded)
  }

  /// The end of a one-way stream.
  func end(_ link: Link) throws(MigrationError.Cause) {
    try section { (reader) throws(StreamError) in try reader.expectEnd() }
    try run()
  }

  private func run() throws(MigrationError.Cause) {
    let began = clock()
    for entry in incoming {
      try onDevice { () throws(DeviceError) in try entry.device.prepareToRun() }
      observe(entry.device)
    }
    for entry in incoming {
      try onDevice { () throws(DeviceError) in try entry.device.run() }
      observe(entry.device)
      report.deviceStates[entry.device.name] = entry.device.observedStates
    }
    do throws(MachineError) {
      try machine.resumeVCPUs()
    } catch {
      throw .machine(error)
    }
    isGuestRunning = true
    isLoading = false
    stage = .done
    report.startNanoseconds = clock() &- began
    do throws(MigrationError.Cause) {
      try tell(.running)
    } catch {
      // The guest runs: there is no way back, and the source knows that it can not know.
      report.notes.append("the source was not told that the guest runs: \(error)")
    }
    observer?.migration(.status(.completed))
  }
}
