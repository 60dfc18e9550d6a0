/// The 16 bytes before every payload.
///
///     0 u16 id | 2 u16 command | 4 u32 size with these 16 | 8 u32 flags | 12 u32 errno
///
/// flags: bits 0-3 0 command, 1 reply; bit 4 No_reply; bit 5 Error. Others are left out of account.
public struct MessageHeader: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// `awaitsReply` false is No_reply.
    case command(awaitsReply: Bool)
    case reply
    /// Has no payload that means anything.
    case errorReply(errno: Int32)
  }

  public static let byteCount = 16

  /// The sender's; an answer repeats it.
  public var id: UInt16
  /// A number that may be no command.
  public var command: UInt16
  public var payloadByteCount: Int
  public var kind: Kind

  public init(id: UInt16, command: UInt16, payloadByteCount: Int, kind: Kind) {
    self.id = id
    self.command = command
    self.payloadByteCount = payloadByteCount
    self.kind = kind
  }

  public var isReply: Bool {
    if case .command = kind { false } else { true }
  }

  /// - Precondition: 16 bytes.
  /// - Throws: `protocolBroken`: after a wrong size or type nothing tells where the next message
  ///   begins.
  public init(decoding bytes: [UInt8], limits: MessageLimits) throws(VFIOUserError) {
    precondition(bytes.count == Self.byteCount, "a header has 16 bytes")
    id = WireBytes.load(UInt16.self, from: bytes, at: 0)
    command = WireBytes.load(UInt16.self, from: bytes, at: 2)
    let size = WireBytes.load(UInt32.self, from: bytes, at: 4)
    let flags = WireBytes.load(UInt32.self, from: bytes, at: 8)
    let name = VFIOUserCommand.name(command)
    switch flags & 0xf {
    case 0: kind = .command(awaitsReply: flags & 0x10 == 0)
    case 1 where flags & 0x20 == 0: kind = .reply
    case 1:
      let errno = WireBytes.load(UInt32.self, from: bytes, at: 12)
      // Some peers set the bit without a number.
      let isNumber = (1...4096).contains(errno)
      kind = .errorReply(errno: isNumber ? Int32(errno) : WireErrno.einval)
    default:
      throw VFIOUserError(
        .protocolBroken, operation: name, errno: WireErrno.einval,
        detail: "a message of type \(flags & 0xf)")
    }
    guard size >= UInt32(Self.byteCount), UInt64(size) <= UInt64(limits.messageByteCountMax) else {
      throw VFIOUserError(
        .protocolBroken, operation: name, errno: WireErrno.einval,
        detail: "a message of \(size) bytes, of 16 to \(limits.messageByteCountMax)")
    }
    payloadByteCount = Int(size) - Self.byteCount
  }

  public func encoded() -> [UInt8] {
    var flags: UInt32
    var errno: UInt32 = 0
    switch kind {
    case .command(let awaitsReply): flags = awaitsReply ? 0 : 0x10
    case .reply: flags = 1
    case .errorReply(let number):
      flags = 0x21
      errno = UInt32(clamping: number)
    }
    var writer = WireWriter()
    writer.put(id)
    writer.put(command)
    writer.put(UInt32(Self.byteCount + payloadByteCount))
    writer.put(flags)
    writer.put(errno)
    return writer.bytes
  }
}
