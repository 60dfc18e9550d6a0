/// Where a trace stops being readable, and why. Everything before it was read and is sound.
public struct TraceDamage: Hashable, Sendable, CustomStringConvertible {
  public enum Kind: Hashable, Sendable {
    /// The file does not begin as a trace.
    case notATrace
    /// A version this program does not know.
    case unknownVersion(UInt32)
    /// The file ends before `missing` more bytes that it should have: it was cut.
    case cut(missing: Int)
    /// The header of the file or of a block does not match its checksum, or states what cannot be.
    case badHeader
    /// The events of a block do not match their checksum.
    case badChecksum(stated: UInt32, found: UInt32)
    /// A block does not follow the one before it.
    case sequenceGap(expected: UInt64, found: UInt64)
    /// An event of a kind this program does not know, or whose values can not be.
    case badEvent(kind: UInt8)
    /// A snapshot is damaged, or not where it belongs.
    case badSnapshot
    /// Bytes after the end.
    case bytesAfterEnd(count: Int)
  }

  public let kind: Kind
  /// Where in the file: the beginning of what could not be read.
  public let byteOffset: Int
  /// The sequence of the first event that is missing.
  public let sequence: UInt64

  public var description: String {
    let what =
      switch kind {
      case .notATrace: "it is not a trace"
      case .unknownVersion(let version):
        "it has version \(version), known is version \(TraceLayout.version)"
      case .cut(let missing): "it ends there, \(missing) or more bytes early"
      case .badHeader: "a header is damaged"
      case .badChecksum(let stated, let found):
        "a block has checksum 0x\(String(found, radix: 16)) instead of "
          + "0x\(String(stated, radix: 16))"
      case .sequenceGap(let expected, let found):
        "a block begins with event \(found) instead of \(expected)"
      case .badEvent(let kind): "an event of kind \(kind) cannot be read"
      case .badSnapshot: "its snapshot cannot be read"
      case .bytesAfterEnd(let count): "\(count) bytes follow its end"
      }
    return "trace damaged at byte \(byteOffset): \(what); events before \(sequence) were read"
  }
}
