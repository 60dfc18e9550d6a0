/// One message with the descriptors that come along.
public struct WireMessage: Sendable {
  public var header: MessageHeader
  public var payload: [UInt8]
  public var descriptors: [OwnedDescriptor]

  public init(header: MessageHeader, payload: [UInt8], descriptors: [OwnedDescriptor] = []) {
    self.header = header
    self.payload = payload
    self.descriptors = descriptors
  }

  /// The name of its command.
  var name: String { VFIOUserCommand.name(header.command) }

  /// The answer to it with an error.
  func refusal(_ errno: Int32) -> WireMessage {
    WireMessage(
      header: MessageHeader(
        id: header.id, command: header.command, payloadByteCount: 0,
        kind: .errorReply(errno: errno)), payload: [])
  }

  func answer(_ payload: [UInt8], _ descriptors: [OwnedDescriptor] = []) -> WireMessage {
    WireMessage(
      header: MessageHeader(
        id: header.id, command: header.command, payloadByteCount: payload.count, kind: .reply),
      payload: payload, descriptors: descriptors)
  }

  /// An answer that is no error.
  /// - Parameter object: the connection it came on.
  func accepted(by object: String) throws(VFIOUserError) -> WireMessage {
    guard case .errorReply(let errno) = header.kind else { return self }
    throw VFIOUserError(.refused, object: object, operation: name, errno: errno)
  }

  var awaitsReply: Bool {
    if case .command(let awaitsReply) = header.kind { awaitsReply } else { false }
  }
}

/// Messages out of a stream that gives them in pieces of any size.
///
/// Invariants:
/// 1. It never asks for more bytes than the message it is in has, so that descriptors that come
/// with
///    them belong to that message.
/// 2. It holds no memory for a message whose size was not checked.
struct MessageAssembler: Sendable {
  let limits: MessageLimits
  private var header: MessageHeader?
  private var bytes = [UInt8](repeating: 0, count: MessageHeader.byteCount)
  private var filledCount = 0
  private var descriptors: [OwnedDescriptor] = []

  init(limits: MessageLimits) { self.limits = limits }

  /// A message has begun and is not whole.
  var isInside: Bool { header != nil || filledCount > 0 }

  /// Has `receive` fill the bytes that are missing, from an index on, and takes up what came. It is
  /// told how many descriptors the message may still have.
  /// - Returns: bytes received: 0 at the end, negative an errno; and the message when it is whole.
  mutating func advance(
    _ receive: (inout [UInt8], Int, Int) -> SocketSystem.Received
  ) throws(VFIOUserError) -> (count: Int, message: WireMessage?) {
    let room = limits.descriptorCountMax - descriptors.count
    let received = receive(&bytes, filledCount, room)
    guard received.count > 0 else { return (received.count, nil) }
    descriptors += received.descriptors
    filledCount += received.count
    guard filledCount == bytes.count else { return (received.count, nil) }
    guard let header else {
      let header = try MessageHeader(decoding: bytes, limits: limits)
      if header.payloadByteCount == 0 { return (received.count, finish(header, [])) }
      self.header = header
      bytes = [UInt8](repeating: 0, count: header.payloadByteCount)
      filledCount = 0
      return (received.count, nil)
    }
    return (received.count, finish(header, bytes))
  }

  private mutating func finish(_ header: MessageHeader, _ payload: [UInt8]) -> WireMessage {
    let message = WireMessage(header: header, payload: payload, descriptors: descriptors)
    self.header = nil
    bytes = [UInt8](repeating: 0, count: MessageHeader.byteCount)
    filledCount = 0
    descriptors = []
    return message
  }
}
