import Addressing
import DMAContainer
import DeviceMigration

/// One client while it is served: its mappings, the log it has started, and its data session. Used
/// by the thread that serves alone.
final class ServerSession {
  let link: Link
  let device: any VFIOUserDevice
  let options: VFIOUserServerOptions
  /// What the client accepts.
  private(set) var peer = MessageLimits(descriptorCountMax: 1)
  var table = DMATable()
  /// Nil while the log is off.
  var loggedPageSize: PageSize?
  /// Of the migration state that has one.
  var dataSession: (any DeviceDataSession)?

  init(link: Link, device: any VFIOUserDevice, options: VFIOUserServerOptions) {
    self.link = link
    self.device = device
    self.options = options
  }

  typealias Answer = (reply: VFIOUserReply, descriptors: [OwnedDescriptor])

  // MARK: VERSION

  /// The first message is VERSION, and nothing else.
  /// - Returns: the twin socket where there is one.
  func negotiate() throws(VFIOUserError) -> Link? {
    let message = try nextCommand()
    do throws(VFIOUserError) {
      return try answerVersion(message)
    } catch {
      // The client learns why before it finds the connection closed.
      if error.reason == .malformed { try? refuse(message, error) }
      throw VFIOUserError(
        .protocolBroken, object: device.name, operation: "VERSION", errno: error.errno,
        detail: error.detail)
    }
  }

  private func answerVersion(_ message: WireMessage) throws(VFIOUserError) -> Link? {
    let request = try VFIOUserRequest(
      decoding: message.header.command, message.payload, from: .client, limits: options.limits)
    guard case .version(let said) = request, message.awaitsReply, message.descriptors.isEmpty,
      said.major == 0
    else {
      throw malformed(
        request.command,
        "the first message is VERSION 0.x, awaits an answer and has no descriptors")
    }
    peer = said.capabilities.limits
    link.learn(peer)
    var mine = VersionCapabilities(
      descriptorCountMax: options.limits.descriptorCountMax,
      dataByteCountMax: options.limits.dataByteCountMax,
      mappingCountMax: options.mappingCountMax, pageSizes: 4096, writesMultiple: true)
    if device.dirtyLog != nil || device.migration != nil {
      mine.migrationPageSize = 4096
      mine.migrationBitmapByteCountMax = UInt64(options.limits.bitmapByteCountMax)
    }
    if device.dirtyLog != nil, options.saysItReportsAnyRange { mine.reportsAnyRange = true }
    var twin: (link: Link, theirs: OwnedDescriptor)?
    if options.offersTwinSocket, said.capabilities.twinSocket?.isSupported == true,
      peer.descriptorCountMax > 0
    {
      twin = try makeTwin()
      mine.twinSocket = .init(isSupported: true, descriptorIndex: 0)
    }
    let answer = VersionMessage(minor: min(said.minor, options.minor), capabilities: mine)
    try link.answer(
      message.answer(answer.encoded(), twin.map { [$0.theirs] } ?? []),
      milliseconds: options.answerMilliseconds)
    return twin?.link
  }

  private func makeTwin() throws(VFIOUserError) -> (Link, OwnedDescriptor) {
    let (ours, theirs) = try VFIOUserSocket.pair()
    let twin = try Link(
      ours, name: "\(device.name), twin", limits: options.limits, peerLimits: peer)
    return (twin, theirs)
  }

  // MARK: the loop

  private func nextCommand() throws(VFIOUserError) -> WireMessage {
    while true {
      if let message = try link.nextCommand() { return message }
      _ = try link.waitForMessages(milliseconds: nil)
    }
  }

  /// Returns only by an error: the client has gone, or the connection was closed.
  func serve() throws(VFIOUserError) -> Never {
    while true {
      let message = try nextCommand()
      let answer: WireMessage
      do throws(VFIOUserError) {
        let request = try VFIOUserRequest(
          decoding: message.header.command, message.payload, from: .client,
          limits: options.limits)
        device.received(request.command, isAwaited: message.awaitsReply)
        let (reply, descriptors) = try carryOut(request, message.descriptors)
        guard message.awaitsReply else { continue }
        let (payload, isWhole) = reply.encoded(to: request)
        // One that is cut is asked for again, and has its descriptors then.
        answer = message.answer(payload, isWhole ? descriptors : [])
      } catch {
        if error.endsConnection, link.end != nil { throw error }
        if message.awaitsReply { try refuse(message, error) }
        continue
      }
      try link.answer(answer, milliseconds: options.answerMilliseconds)
    }
  }

  private func refuse(_ message: WireMessage, _ error: VFIOUserError) throws(VFIOUserError) {
    try link.answer(
      message.refusal(error.errno == 0 ? WireErrno.eio : error.errno),
      milliseconds: options.answerMilliseconds)
  }

  /// The client has gone.
  func end() {
    dataSession?.close()
    dataSession = nil
    // Nobody is left to tell; the next client's start begins from clean.
    if loggedPageSize != nil { try? device.dirtyLog?.stop() }
    loggedPageSize = nil
    // A device that does not let go keeps its own descriptor of the memory; nothing more can be
    // done.
    for region in table.removeAll() { try? device.unmap(region) }
    device.clientLeft()
  }

  // MARK: commands

  private func carryOut(
    _ request: VFIOUserRequest, _ descriptors: [OwnedDescriptor]
  ) throws(VFIOUserError) -> Answer {
    switch request {
    case .version: throw malformed(.version, "it comes once")
    case .dmaRead, .dmaWrite: throw malformed(request.command, "it is a server's")
    case .mapDMA(let message):
      try map(message, descriptors)
      return (.done, [])
    case .unmapDMA(let message): return (.unmapDMA(try unmap(message)), [])
    case .deviceInformation: return (.deviceInformation(device.information), [])
    case .regionInformation(let index, _): return try region(index)
    case .regionIODescriptors(let index, _):
      guard let (entries, descriptors) = device.ioDescriptors(index),
        descriptors.count <= peer.descriptorCountMax
      else { throw malformed(request.command, "region \(index) has none") }
      return (.regionIODescriptors(index: index, entries, neededByteCount: nil), descriptors)
    case .irqInformation(let index):
      guard let information = device.irq(index) else {
        throw malformed(request.command, "there are no interrupts \(index)")
      }
      return (.irqInformation(information), [])
    case .setIRQs(let message):
      try setIRQs(message, descriptors)
      return (.done, [])
    case .regionRead(let access):
      return (.regionRead(Array(try device.readRegion(access).prefix(access.byteCount))), [])
    case .regionWrite(let access, let data):
      try device.writeRegion(access, data)
      return (.regionWrite, [])
    case .regionWriteMulti(let writes):
      for write in writes {
        try device.writeRegion(
          RegionAccess(region: write.region, offset: write.offset, byteCount: write.bytes.count),
          write.bytes)
      }
      return (.regionWriteMulti, [])
    case .reset:
      try reset()
      return (.done, [])
    case .feature(let message): return (.feature(try feature(message)), [])
    case .migrationRead(let byteCount):
      return (.migrationRead(try readState(byteCount)), [])
    case .migrationWrite(let data):
      try writeState(data)
      return (.done, [])
    }
  }

  private func region(_ index: UInt32) throws(VFIOUserError) -> Answer {
    guard let (information, descriptor) = device.region(index) else {
      throw malformed(.regionInformation, "there is no region \(index)")
    }
    guard let descriptor, peer.descriptorCountMax > 0 else {
      // Without its descriptor it cannot be mapped.
      var bare = information
      bare.access.remove(.map)
      bare.areas = []
      return (.regionInformation(bare, neededByteCount: nil), [])
    }
    return (.regionInformation(information, neededByteCount: nil), [descriptor])
  }

  private func setIRQs(
    _ message: SetIRQsMessage, _ descriptors: [OwnedDescriptor]
  ) throws(VFIOUserError) {
    guard let information = device.irq(message.index) else {
      throw malformed(.setIRQs, "there are no interrupts \(message.index)")
    }
    guard UInt64(message.start) + UInt64(message.count) <= UInt64(information.count) else {
      throw malformed(
        .setIRQs,
        "interrupts \(message.start) to \(UInt64(message.start) + UInt64(message.count)), of"
          + " \(information.count)")
    }
    let wanted = message.values == .eventDescriptors ? [0, Int(message.count)] : [0]
    guard wanted.contains(descriptors.count) else {
      throw malformed(
        .setIRQs, "\(descriptors.count) descriptors for \(message.count) interrupts")
    }
    try device.setIRQs(message, descriptors: descriptors)
  }

  private func reset() throws(VFIOUserError) {
    dataSession?.close()
    dataSession = nil
    if let migration = device.migration {
      do throws(DeviceError) { try migration.reset() } catch { throw refused(.reset, error) }
    }
    try device.reset()
  }

  // MARK: errors

  func malformed(_ command: VFIOUserCommand, _ detail: String) -> VFIOUserError {
    VFIOUserError(
      .malformed, object: device.name, operation: "\(command)", errno: WireErrno.einval,
      detail: detail)
  }

  func refused(
    _ command: VFIOUserCommand, _ errno: Int32, _ detail: String
  ) -> VFIOUserError {
    VFIOUserError(
      .refused, object: device.name, operation: "\(command)", errno: errno, detail: detail)
  }

  func refused(_ command: VFIOUserCommand, _ error: DeviceError) -> VFIOUserError {
    refused(command, error.errno.rawValue, "\(error)")
  }

  func refused(_ command: VFIOUserCommand, _ error: ContainerError) -> VFIOUserError {
    refused(command, error.errno, "\(error)")
  }
}
