/// An answer to the front-end.
public enum BackEndReply: Hashable, Sendable {
  /// A 64-bit number; of an acknowledgement 0 says that all went well.
  case number(FrontEndRequest, UInt64)
  /// To GET_VRING_BASE.
  case ring(FrontEndRequest, RingNumber)
  case configuration(ConfigurationAccess)

  public var request: FrontEndRequest {
    switch self {
    case .number(let request, _), .ring(let request, _): request
    case .configuration: .getConfiguration
    }
  }

  /// The whole message, header included.
  public var bytes: [UInt8] {
    var writer = WireWriter()
    switch self {
    case .number(_, let value): writer.append(value)
    case .ring(_, let number): writer.append(number)
    case .configuration(let access): writer.append(access)
    }
    let header = MessageHeader(
      request: request.rawValue, flags: MessageHeader.version | MessageHeader.replyFlag,
      payloadByteCount: UInt32(writer.bytes.count))
    return header.bytes + writer.bytes
  }
}
