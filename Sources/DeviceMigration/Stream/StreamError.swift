public import Addressing

/// The stream was refused. The destination discards what it has; the source runs on.
public struct StreamError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Reason: Hashable, Sendable {
    /// The bytes end inside the start, a section, or before the last section.
    case truncated
    /// The first bytes are not those of a migration stream.
    case notAStream
    case unknownVersion(UInt32)
    /// A checksum does not hold; `part` is `start`, `header` or `payload`.
    case damaged(part: String)
    case unknownKind(UInt16)
    /// A section is missing, came twice, or came early.
    case outOfOrder(expected: UInt64, found: UInt64)
    case oversized(byteCount: UInt64, limit: UInt64)
    case pageOutsideRAM(GPA, pageCount: UInt64)
    case noSuchDevice(index: UInt32, deviceCount: Int)
    /// State or a second end for a device whose state has ended.
    case deviceEnded(String)
    case chunkOutOfOrder(device: String, expected: UInt64, found: UInt64)
    case afterComplete(StreamSectionKind)
    /// The section is known but has no place here; a clause says why.
    case unexpected(StreamSectionKind, String)
    /// The payload does not say what its kind must.
    case malformed(StreamSectionKind, String)
    /// What arrived is not what the source says it sent.
    case totalsDiffer(String)
    case channel(ChannelError)
  }

  public let reason: Reason
  /// Bytes of the stream before the section, or the byte, that is refused.
  public let offset: UInt64

  public init(_ reason: Reason, offset: UInt64) {
    self.reason = reason
    self.offset = offset
  }

  public var description: String {
    let what =
      switch reason {
      case .truncated: "the stream ends too early"
      case .notAStream: "this is not a migration stream"
      case .unknownVersion(let version):
        "stream version \(version) is not known here, only \(StreamFormat.version)"
      case .damaged(let part): "the \(part) is damaged, its checksum does not hold"
      case .unknownKind(let kind): "section kind \(kind) is not known"
      case .outOfOrder(let expected, let found):
        "section \(found) came where section \(expected) belongs"
      case .oversized(let count, let limit):
        "a section of \(count) bytes is over the limit of \(limit)"
      case .pageOutsideRAM(let gpa, let count): "\(count) pages at GPA \(gpa) are not all RAM"
      case .noSuchDevice(let index, let count):
        "there is no device \(index), the migration has \(count)"
      case .deviceEnded(let name): "the state of device \(name) has ended already"
      case .chunkOutOfOrder(let name, let expected, let found):
        "chunk \(found) of device \(name) came where chunk \(expected) belongs"
      case .afterComplete(let kind): "a section (\(kind)) follows the complete stream"
      case .unexpected(let kind, let why): "a section (\(kind)) has no place here: \(why)"
      case .malformed(let kind, let why): "a section (\(kind)) is malformed: \(why)"
      case .totalsDiffer(let why): "what arrived is not what was sent: \(why)"
      case .channel(let error): "\(error)"
      }
    return "at byte \(offset): \(what)"
  }
}
