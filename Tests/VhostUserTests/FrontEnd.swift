import Glibc
import Testing

@testable import VhostUser

/// The other side: sends what QEMU sends and checks each answer.
final class FrontEnd {
  let socket: OwnedDescriptor
  /// Set once the features were negotiated: as QEMU, it then asks for acknowledgements.
  var asksForReplies = false

  init(_ path: String) {
    let number = Descriptors.connect(path)
    precondition(number >= 0, "no connection to \(path): \(number)")
    socket = OwnedDescriptor(owning: number)
  }

  func send(bytes: [UInt8], _ descriptors: [Int32] = []) {
    _ = SocketCalls.send(bytes[...], with: descriptors, to: socket.number)
  }

  func send(_ message: FrontEndMessage, _ descriptors: [Int32] = [], needsReply: Bool = false) {
    send(bytes: message.bytes(needsReply: needsReply), descriptors)
  }

  /// The next answer, nil when the connection has ended.
  func receive() -> (header: MessageHeader, payload: [UInt8])? {
    guard let first = receive(count: CompanionLimits.headerByteCount) else { return nil }
    let header = MessageHeader(first)
    guard let payload = receive(count: Int(header.payloadByteCount)) else { return nil }
    return (header, payload)
  }

  /// Waits for as many bytes; nil at the end of the stream.
  private func receive(count: Int) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let ready = SocketCalls.wait(
        wake: -1, listener: -1, connection: socket.number, isWriting: false, milliseconds: 30_000)
      guard ready.connection else {
        Issue.record("no answer for 30 s")
        return nil
      }
      let received = SocketCalls.receive(socket.number, into: &bytes, from: done, to: count)
      if received.count == -Int(EAGAIN) { continue }
      if received.count <= 0 { return nil }
      done += received.count
    }
    return bytes
  }

  /// Sends, and waits for what must come back.
  /// - Returns: the number in the answer, nil when the connection has ended.
  @discardableResult
  func ask(_ message: FrontEndMessage, _ descriptors: [Int32] = []) -> UInt64? {
    send(message, descriptors, needsReply: asksForReplies)
    guard let (header, payload) = receive() else { return nil }
    #expect(header.request == message.request.rawValue && header.flags == 5)
    #expect(payload.count == 8)
    var reader = WireReader(payload)
    return reader.word64()
  }

  /// Waits until the other side has closed the connection.
  func isClosed() -> Bool { receive() == nil }
}

/// The recorded messages of QEMU 11.1.3 (Traces of a migration with a vhost-user-blk device), in
/// their order, with descriptors and acknowledgements.
extension FrontEnd {
  static let features: VirtioFeatures = [.version1, .protocolFeatures]

  /// `vhost_user_blk_device_realize`.
  func realize() {
    #expect(ask(.getFeatures) == VirtioFeatures.offered.rawValue)
    #expect(ask(.getProtocolFeatures) == ProtocolFeatures.offered.rawValue)
    send(.setProtocolFeatures(.offered))
    #expect(ask(.getQueueCount) == 256)
    #expect(ask(.getMemorySlotCount) == 512)
    send(.setOwner)
    #expect(ask(.getFeatures) == VirtioFeatures.offered.rawValue)
    asksForReplies = true
    withMemory("call") { memory in
      #expect(ask(.setRingCall(RingDescriptor(ring: 0, hasDescriptor: true)), [memory]) == 0)
      #expect(ask(.setRingError(RingDescriptor(ring: 0, hasDescriptor: true)), [memory]) == 0)
    }
    let access = ConfigurationAccess(
      offset: 0, flags: 0, bytes: [UInt8](repeating: 0, count: 60))
    send(.getConfiguration(access))
    let (header, payload) =
      receive() ?? (MessageHeader(request: 0, flags: 0, payloadByteCount: 0), [])
    #expect(header.request == 24 && payload.count == 72 && payload[12...].allSatisfy { $0 == 0 })
  }

  /// `vhost_user_blk_start`, after the guest's driver is ready, or when the VM runs again.
  func start(_ regions: [(RAMRegionDescription, Int32)], log: (LogFile, LogDescription)? = nil) {
    let features = log == nil ? Self.features : Self.features.union(.logAll)
    send(.setFeatures(features))
    withMemory("call") { memory in
      #expect(ask(.setRingCall(RingDescriptor(ring: 0, hasDescriptor: true)), [memory]) == 0)
    }
    send(.setFeatures(features))
    #expect(ask(.setMemoryTable(regions.map(\.0)), regions.map(\.1)) == 0)
    send(.setRingSize(RingNumber(ring: 0, value: 128)))
    send(.setRingBase(RingNumber(ring: 0, value: 17)))
    send(.setRingAddress(Self.address(logs: false)))
    withMemory("kick") { memory in
      #expect(ask(.setRingKick(RingDescriptor(ring: 0, hasDescriptor: true)), [memory]) == 0)
    }
    if let log { #expect(ask(.setLogBase(log.1), [log.0.descriptor]) == 0) }
    #expect(ask(.setRingEnable(RingNumber(ring: 0, value: 1))) == 0)
  }

  /// `migrate`: `vhost_migration_log` of a started device.
  func startLogging(_ file: LogFile) {
    setLogBase(file)
    #expect(ask(.setFeatures(Self.features.union(.logAll))) == 0)
    #expect(ask(.setRingAddress(Self.address(logs: true))) == 0)
  }

  func setLogBase(_ file: LogFile) {
    let description = LogDescription(byteCount: file.byteCount, offset: 0)
    #expect(ask(.setLogBase(description), [file.descriptor]) == 0)
  }

  func endLogging() {
    #expect(ask(.setFeatures(Self.features)) == 0)
    #expect(ask(.setRingAddress(Self.address(logs: false))) == 0)
  }

  /// `vhost_user_blk_stop`.
  /// - Returns: the base of the ring, nil when the connection was closed instead.
  func stop() -> UInt32? {
    #expect(ask(.setRingEnable(RingNumber(ring: 0, value: 0))) == 0)
    return ask(.getRingBase(RingNumber(ring: 0, value: 0))).map {
      UInt32(truncatingIfNeeded: $0 >> 32)
    }
  }

  private static func address(logs: Bool) -> RingAddress {
    RingAddress(
      ring: 0, flags: logs ? 1 : 0, descriptors: 0x1000, used: 0x3000, available: 0x2000,
      log: 0x1c2_3000)
  }

  /// A descriptor for the time of the body.
  private func withMemory(_ name: String, _ body: (Int32) -> Void) {
    let memory = Descriptors.memory(name)
    body(memory)
    Descriptors.close(memory)
  }
}
