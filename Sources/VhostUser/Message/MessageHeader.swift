/// The 12 bytes before each payload: three 32-bit numbers of the machine's byte order.
///
///     request | flags: version in bits 0-1, reply in bit 2, need_reply in bit 3 | payload bytes
public struct MessageHeader: Hashable, Sendable {
  static let version: UInt32 = 1
  static let versionMask: UInt32 = 3
  static let replyFlag: UInt32 = 4
  static let needsReplyFlag: UInt32 = 8

  public let request: UInt32
  public let flags: UInt32
  public let payloadByteCount: UInt32

  public init(request: UInt32, flags: UInt32, payloadByteCount: UInt32) {
    self.request = request
    self.flags = flags
    self.payloadByteCount = payloadByteCount
  }

  /// - Precondition: `bytes` holds 12 at least.
  init(_ bytes: [UInt8]) {
    var reader = WireReader(bytes)
    request = reader.word32()
    flags = reader.word32()
    payloadByteCount = reader.word32()
  }

  var bytes: [UInt8] {
    var writer = WireWriter()
    writer.append(request)
    writer.append(flags)
    writer.append(payloadByteCount)
    return writer.bytes
  }

  var needsReply: Bool { flags & Self.needsReplyFlag != 0 }

  /// What it asks, and that its payload has a size which that may have: known before a byte of the
  /// payload is read.
  func checkedRequest() throws(VhostUserError) -> FrontEndRequest {
    guard flags & Self.versionMask == Self.version, flags & Self.replyFlag == 0 else {
      throw .badFlags(request: request, flags: flags)
    }
    guard let known = FrontEndRequest(rawValue: request) else {
      throw .unknownRequest(request)
    }
    guard known.payloadByteCounts.contains(payloadByteCount) else {
      throw .badPayloadSize(known, byteCount: payloadByteCount)
    }
    return known
  }
}
