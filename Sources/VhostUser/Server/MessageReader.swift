/// Puts messages together from a stream that may hand them over in any pieces.
///
/// Never asks for a byte beyond the message it is at, so descriptors belong to the message whose
/// bytes they came with. Memory: one message.
struct MessageReader {
  struct Message {
    let message: FrontEndMessage
    let needsReply: Bool
    let descriptors: [OwnedDescriptor]
  }

  enum Step {
    case message(Message)
    /// Nothing more to read now.
    case wait
  }

  private var bytes = [UInt8](
    repeating: 0,
    count: CompanionLimits.headerByteCount + CompanionLimits.payloadByteCountMax)
  private var count = 0
  private var descriptors: [OwnedDescriptor] = []
  /// What the header asks, once it has arrived and been found good.
  private var header: (request: FrontEndRequest, needsReply: Bool, end: Int)?

  /// Reads on until a message is whole or nothing is left to read.
  mutating func next(from descriptor: Int32) throws(VhostUserError) -> Step {
    while true {
      let end = header?.end ?? CompanionLimits.headerByteCount
      if count < end {
        let received = SocketCalls.receive(descriptor, into: &bytes, from: count, to: end)
        descriptors += received.descriptors
        if received.isTruncated || descriptors.count > CompanionLimits.descriptorCountMax {
          throw .tooManyDescriptors(max: CompanionLimits.descriptorCountMax)
        }
        if received.count == -11 { return .wait }
        if received.count < 0 {
          throw .connectionFailed(
            operation: "recvmsg", errno: Int32(clamping: -received.count))
        }
        if received.count == 0 {
          throw count == 0 ? .closedByFrontEnd : .cutMessage(byteCount: count)
        }
        count += received.count
        if count < end { continue }
      }
      guard let header else {
        try takeHeader()
        continue
      }
      return .message(try takeMessage(header))
    }
  }

  private mutating func takeHeader() throws(VhostUserError) {
    let found = MessageHeader(Array(bytes[0..<CompanionLimits.headerByteCount]))
    let request = try found.checkedRequest()
    header = (
      request, found.needsReply,
      CompanionLimits.headerByteCount + Int(found.payloadByteCount)
    )
  }

  private mutating func takeMessage(
    _ header: (request: FrontEndRequest, needsReply: Bool, end: Int)
  ) throws(VhostUserError) -> Message {
    let payload = Array(bytes[CompanionLimits.headerByteCount..<header.end])
    let message = try FrontEndMessage(
      header.request, payload: payload, descriptorCount: descriptors.count)
    defer {
      self.header = nil
      count = 0
      descriptors = []
    }
    return Message(message: message, needsReply: header.needsReply, descriptors: descriptors)
  }
}
