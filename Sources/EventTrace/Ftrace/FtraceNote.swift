public import Addressing

/// A line of a recording that is not as it should be.
public struct FtraceNote: Hashable, Sendable, CustomStringConvertible {
  public enum Kind: Hashable, Sendable {
    case notUnderstood
    case lineTooLong(byteCountMax: Int)
    /// The size is 0, the range runs past 2^64-1, or begin, end and size do not agree.
    case impossibleRange
    /// The kernel removed less, or more, than it was asked to.
    case unmappedOtherSize(IOVARange, unmappedByteCount: UInt64)
    case eventsLost(count: UInt64)
    case endsInCarriageReturn
    case mappedTwice(IOVARange)
    case unmapOfNothing(IOVARange)
    /// Whether it was mapped twice is not known: it is no whole page, or there are too many.
    case notChecked(IOVARange)
  }

  public let kind: Kind
  /// From 1.
  public let line: Int

  public init(kind: Kind, line: Int) {
    self.kind = kind
    self.line = line
  }

  public var description: String {
    let what =
      switch kind {
      case .notUnderstood: "not understood, left out"
      case .lineTooLong(let limit): "longer than \(limit) bytes, left out"
      case .impossibleRange: "a range that can not be, left out"
      case .unmappedOtherSize(let iova, let bytes):
        "unmap of IOVA \(iova) removed \(bytes) bytes"
      case .eventsLost(let count): "\(count) events were lost by the recording kernel"
      case .endsInCarriageReturn: "lines end in CR LF, read as LF"
      case .mappedTwice(let iova):
        "IOVA \(iova) is mapped while it is mapped: the recording mixes several domains, which "
          + "it does not tell apart, or has lost an unmap"
      case .unmapOfNothing(let iova): "IOVA \(iova) is unmapped and was not seen mapped"
      case .notChecked(let iova): "whether IOVA \(iova) is mapped twice was not checked"
      }
    return "line \(line): \(what)"
  }
}
