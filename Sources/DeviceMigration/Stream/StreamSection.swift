import Addressing

/// The header of a section, as its 40 bytes say it.
///
///     0 kind u16 | 2 flags u16, 0 | 4 payload bytes u32 | 8 sequence u64 | 16 argument u64
///     24 count u32 | 28 reserved u32, 0 | 32 CRC32C of the payload u32
///     36 CRC32C of bytes 0 to 35 u32
public struct StreamSection: Hashable, Sendable {
  public var kind: StreamSectionKind
  public var payloadByteCount: Int
  public var sequence: UInt64
  public var argument: UInt64
  public var count: UInt32
  public var payloadChecksum: UInt32

  public init(
    _ kind: StreamSectionKind, payloadByteCount: Int = 0, sequence: UInt64 = 0,
    argument: UInt64 = 0, count: UInt32 = 0, payloadChecksum: UInt32 = 0
  ) {
    self.kind = kind
    self.payloadByteCount = payloadByteCount
    self.sequence = sequence
    self.argument = argument
    self.count = count
    self.payloadChecksum = payloadChecksum
  }

  /// The 40 bytes.
  /// - Precondition: the payload is within ``Limits/streamSectionByteCountMax``.
  public func encoded() -> [UInt8] {
    precondition(payloadByteCount <= Limits.streamSectionByteCountMax, "the payload is too large")
    var bytes = PayloadEncoder(capacity: StreamFormat.headerByteCount)
    bytes.append(kind.rawValue)
    bytes.append(UInt16(0))
    bytes.append(UInt32(payloadByteCount))
    bytes.append(sequence)
    bytes.append(argument)
    bytes.append(count)
    bytes.append(UInt32(0))
    bytes.append(payloadChecksum)
    bytes.append(Checksum.crc32c(of: bytes.bytes))
    return bytes.bytes
  }

  /// - Parameter offset: where in the stream the header stood.
  public static func decode(
    _ bytes: [UInt8], expecting sequence: UInt64, offset: UInt64
  ) throws(StreamError) -> StreamSection {
    precondition(bytes.count == StreamFormat.headerByteCount, "a header has 40 bytes")
    var reader = PayloadDecoder(bytes)
    guard let kindNumber: UInt16 = reader.next(), let flags: UInt16 = reader.next(),
      let byteCount: UInt32 = reader.next(), let found: UInt64 = reader.next(),
      let argument: UInt64 = reader.next(), let count: UInt32 = reader.next(),
      let reserved: UInt32 = reader.next(), let payloadChecksum: UInt32 = reader.next(),
      let checksum: UInt32 = reader.next()
    else { preconditionFailure("a header has 40 bytes") }
    guard checksum == Checksum.crc32c(of: bytes, first: 36) else {
      throw StreamError(.damaged(part: "header"), offset: offset)
    }
    guard found == sequence else {
      throw StreamError(.outOfOrder(expected: sequence, found: found), offset: offset)
    }
    guard let kind = StreamSectionKind(rawValue: kindNumber) else {
      throw StreamError(.unknownKind(kindNumber), offset: offset)
    }
    guard flags == 0, reserved == 0 else {
      throw StreamError(.malformed(kind, "a flag is set that is not known"), offset: offset)
    }
    let limit = UInt64(Limits.streamSectionByteCountMax)
    guard UInt64(byteCount) <= limit else {
      throw StreamError(.oversized(byteCount: UInt64(byteCount), limit: limit), offset: offset)
    }
    return StreamSection(
      kind, payloadByteCount: Int(byteCount), sequence: found, argument: argument, count: count,
      payloadChecksum: payloadChecksum)
  }
}
