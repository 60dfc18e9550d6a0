public import Addressing

/// Writes one direction of a stream. After an error nothing more can be written: how much of the
/// last section went out is not known.
public final class StreamWriter {
  let line: StreamLine
  private var staging: [UInt8]
  public private(set) var totals = StreamTotals()

  var isBroken: Bool { line.snapshot.isBroken }
  public var sectionCount: UInt64 { line.snapshot.sectionCount }
  public var byteCount: UInt64 { line.snapshot.byteCount }

  public init(_ channel: any ByteChannel) {
    line = StreamLine(channel)
    let capacity = StreamFormat.headerByteCount + StreamFormat.pagesByteCountMax
    self.staging = [UInt8](repeating: 0, count: capacity)
  }

  /// The start of the stream, before any section.
  public func begin() throws(ChannelError) {
    var bytes = PayloadEncoder(capacity: StreamFormat.startByteCount)
    for byte in StreamFormat.magic { bytes.append(byte) }
    bytes.append(StreamFormat.version)
    bytes.append(Checksum.crc32c(of: bytes.bytes))
    try line.put(bytes.bytes)
  }

  /// One section. The payload is at most ``Limits/streamSectionByteCountMax``.
  public func write(
    _ kind: StreamSectionKind, argument: UInt64 = 0, count: UInt32 = 0, payload: [UInt8] = []
  ) throws(ChannelError) {
    let sum = Checksum.crc32c(of: payload)
    let isLast = kind == .complete || kind == .abort
    try line.section(last: isLast) { (sequence, put) throws(ChannelError) in
      let header = StreamSection(
        kind, payloadByteCount: payload.count, sequence: sequence, argument: argument,
        count: count, payloadChecksum: sum
      ).encoded()
      if header.count + payload.count <= staging.count {
        Checksum.copy(header, into: &staging, at: 0)
        Checksum.copy(payload, into: &staging, at: header.count)
        try put(staging, header.count + payload.count)
      } else {
        try put(header, header.count)
        try put(payload, payload.count)
      }
    }
    if kind == .deviceChunk {
      totals.chunks &+= 1
      totals.chunkBytes &+= UInt64(payload.count)
    }
  }

  /// A text of an abort or an answer.
  public func write(_ kind: StreamSectionKind, text: String) throws(ChannelError) {
    var bytes = PayloadEncoder()
    bytes.append(text)
    try write(kind, payload: bytes.bytes)
  }

  /// Pages with content; `bytes` is guest memory, and the guest may be writing to it. They are
  /// copied once, because what is summed must be what is written.
  /// - Precondition: whole pages, at most ``StreamFormat/pagesByteCountMax``.
  public func writePages(at gpa: GPA, _ bytes: RawSpan) throws(ChannelError) {
    let pages = bytes.byteCount / StreamFormat.pageByteCount
    precondition(
      pages > 0 && bytes.byteCount % StreamFormat.pageByteCount == 0
        && bytes.byteCount <= StreamFormat.pagesByteCountMax, "whole pages, not too many")
    let sum = Checksum.copy(bytes, into: &staging, at: StreamFormat.headerByteCount)
    try line.section { (sequence, put) throws(ChannelError) in
      let header = StreamSection(
        .pages, payloadByteCount: bytes.byteCount, sequence: sequence, argument: gpa.rawValue,
        count: UInt32(pages), payloadChecksum: sum
      ).encoded()
      Checksum.copy(header, into: &staging, at: 0)
      try put(staging, header.count + bytes.byteCount)
    }
    totals.pages &+= UInt64(pages)
  }

  /// Pages without content.
  /// - Precondition: `range` consists of whole pages, fewer than 2^32.
  public func writeZeroPages(_ range: GPARange) throws(ChannelError) {
    let count = (range.lastOffset &+ 1) / UInt64(StreamFormat.pageByteCount)
    precondition(count > 0 && count <= UInt64(UInt32.max), "whole pages, fewer than 2^32")
    try write(.zeroPages, argument: range.first.rawValue, count: UInt32(count))
    totals.zeroPages &+= count
  }

  public func writeTotals() throws(ChannelError) {
    try write(.complete, payload: totals.encoded())
  }
}
