import Snapshot

/// The fixed part of an event, 40 bytes; what does not fit follows as payload.
///
/// In a file, little-endian: kind at 0, flags at 1, container at 2, payload bytes at 4, timestamp
/// at 8, the three values at 16, 24 and 32.
struct EventSlot: BitwiseCopyable, Hashable, Sendable {
  static let byteCount = 40

  var kind: UInt8
  var flags: UInt8 = 0
  var container: UInt16 = 0
  var payloadByteCount: UInt32 = 0
  var timestampNanoseconds: UInt64 = 0
  var first: UInt64 = 0
  var second: UInt64 = 0
  var third: UInt64 = 0

  init(
    _ kind: EventKind, flags: UInt8 = 0, container: UInt16 = 0, _ first: UInt64 = 0,
    _ second: UInt64 = 0, _ third: UInt64 = 0
  ) {
    self.kind = kind.rawValue
    self.flags = flags
    self.container = container
    self.first = first
    self.second = second
    self.third = third
  }

  func write(to bytes: inout [UInt8]) {
    bytes.append(kind)
    bytes.append(flags)
    bytes.appendLittleEndian(container)
    bytes.appendLittleEndian(payloadByteCount)
    bytes.appendLittleEndian(timestampNanoseconds)
    bytes.appendLittleEndian(first)
    bytes.appendLittleEndian(second)
    bytes.appendLittleEndian(third)
  }

  /// The kind may be unknown; nothing else can be wrong with a slot by itself.
  init(from reader: inout PayloadReader) throws(PayloadFault) {
    kind = try reader.littleEndian(UInt8.self)
    flags = try reader.littleEndian(UInt8.self)
    container = try reader.littleEndian(UInt16.self)
    payloadByteCount = try reader.littleEndian(UInt32.self)
    timestampNanoseconds = try reader.littleEndian(UInt64.self)
    first = try reader.littleEndian(UInt64.self)
    second = try reader.littleEndian(UInt64.self)
    third = try reader.littleEndian(UInt64.self)
  }
}
