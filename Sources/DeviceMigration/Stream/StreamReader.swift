public import Addressing

/// Reads one direction of a stream, section by section.
public final class StreamReader {
  private let channel: any ByteChannel
  private var sequence: UInt64 = 0
  private var header: [UInt8]
  /// Bytes read so far.
  public private(set) var offset: UInt64 = 0
  /// Where the section that was read last begins.
  public private(set) var sectionOffset: UInt64 = 0

  public init(_ channel: any ByteChannel) {
    self.channel = channel
    self.header = [UInt8](repeating: 0, count: StreamFormat.headerByteCount)
  }

  /// Reads and checks the start of the stream.
  public func begin() throws(StreamError) {
    var bytes = [UInt8](repeating: 0, count: StreamFormat.startByteCount)
    try fill(&bytes)
    guard Array(bytes[0..<8]) == StreamFormat.magic else {
      throw StreamError(.notAStream, offset: 0)
    }
    var reader = PayloadDecoder(Array(bytes[8...]))
    guard let version: UInt32 = reader.next(), let checksum: UInt32 = reader.next(),
      checksum == Checksum.crc32c(of: bytes, first: 12)
    else { throw StreamError(.damaged(part: "start"), offset: 8) }
    guard version == StreamFormat.version else {
      throw StreamError(.unknownVersion(version), offset: 8)
    }
  }

  /// The next header. Its payload must be read before the next one.
  public func nextSection() throws(StreamError) -> StreamSection {
    sectionOffset = offset
    try fill(&header)
    let section = try StreamSection.decode(header, expecting: sequence, offset: sectionOffset)
    sequence &+= 1
    return section
  }

  /// The payload of `section` into `buffer`, which becomes exactly that long.
  public func readPayload(
    of section: StreamSection, into buffer: inout [UInt8]
  ) throws(StreamError) {
    if buffer.count > section.payloadByteCount {
      buffer.removeLast(buffer.count - section.payloadByteCount)
    } else if buffer.count < section.payloadByteCount {
      buffer.append(
        contentsOf: repeatElement(0, count: section.payloadByteCount - buffer.count))
    }
    try check(section, try fill(&buffer))
  }

  /// The payload of `section` into guest memory, checked while the cache still holds it.
  public func readPayload(
    of section: StreamSection, into memory: any GuestMemory, range: GPARange
  ) throws(StreamError) {
    let sum = try memory.withMutableBytes(of: range) { (bytes) throws(StreamError) -> UInt32 in
      try self.fill(&bytes)
    }
    guard let sum else {
      throw StreamError(
        .pageOutsideRAM(range.first, pageCount: UInt64(section.count)), offset: sectionOffset)
    }
    try check(section, sum)
  }

  /// A text payload, for people: what a terminal would obey is escaped, and the rest is cut.
  public func readText(of section: StreamSection) throws(StreamError) -> String {
    var payload: [UInt8] = []
    try readPayload(of: section, into: &payload)
    var reader = PayloadDecoder(payload)
    guard let text = reader.nextText(), reader.isAtEnd else {
      throw StreamError(.malformed(section.kind, "it holds no text"), offset: sectionOffset)
    }
    return PeerText.reason(text)
  }

  /// Whether the channel ends here, as it must after the last section.
  public func expectEnd() throws(StreamError) {
    var byte: [UInt8] = [0]
    guard try readSome(into: &byte) == 0 else {
      throw StreamError(.malformed(.complete, "bytes follow the end"), offset: offset)
    }
  }

  private func readSome(into buffer: inout [UInt8]) throws(StreamError) -> Int {
    do throws(ChannelError) {
      return try ByteAccess.withMutable(&buffer) { (bytes) throws(ChannelError) in
        try channel.read(into: &bytes)
      }
    } catch {
      throw StreamError(.channel(error), offset: offset)
    }
  }

  private func check(_ section: StreamSection, _ sum: UInt32) throws(StreamError) {
    guard sum == section.payloadChecksum else {
      throw StreamError(.damaged(part: "payload"), offset: sectionOffset)
    }
  }

  @discardableResult
  private func fill(_ buffer: inout [UInt8]) throws(StreamError) -> UInt32 {
    try ByteAccess.withMutable(&buffer) { (bytes) throws(StreamError) in try self.fill(&bytes) }
  }

  /// All of `bytes`, each piece summed as it comes, while the cache still holds it.
  private func fill(_ bytes: inout MutableRawSpan) throws(StreamError) -> UInt32 {
    var done = 0
    var sum: UInt32 = 0
    while done < bytes.byteCount {
      let count: Int
      do throws(ChannelError) {
        var rest = bytes._mutatingExtracting(droppingFirst: done)
        count = try channel.read(into: &rest)
      } catch {
        throw StreamError(.channel(error), offset: offset)
      }
      guard count > 0 else { throw StreamError(.truncated, offset: offset) }
      precondition(count <= bytes.byteCount - done, "a channel gave more than was asked for")
      sum = Checksum.crc32c(
        of: bytes.bytes.extracting(done..<(done + count)), continuing: sum)
      done &+= count
      offset &+= UInt64(count)
    }
    return sum
  }
}
