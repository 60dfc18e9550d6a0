import Addressing

/// The part of an event that has no fixed size: integers of 7 bits a byte, lowest first, the top
/// bit saying that more follow; strings as a byte count and UTF-8; lists as a count and their
/// elements.
struct PayloadWriter {
  var bytes: [UInt8] = []

  mutating func integer(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest &>>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  mutating func boolean(_ value: Bool) { bytes.append(value ? 1 : 0) }

  mutating func optional(_ value: UInt64?) {
    boolean(value != nil)
    if let value { integer(value) }
  }

  /// A count or number that is never negative.
  mutating func count(_ value: Int?) { optional(value.map { UInt64(max($0, 0)) }) }

  /// Cut at the longest string a reader takes, between two characters.
  mutating func string(_ text: String) {
    var text = text
    while text.utf8.count > Limits.traceStringByteCountMax { text.removeLast() }
    integer(UInt64(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  /// Ranges, each told by the distance of its first from the last of the one before: in pages of
  /// 4 KiB when all consist of such, which makes an alternating bitmap 2 bytes a run.
  mutating func ranges<A: Address>(_ ranges: [AddressRange<A>]) {
    let shift: UInt64 = ranges.allSatisfy { $0.isAligned(to: .fourKiB) } ? 12 : 0
    integer(UInt64(ranges.count))
    integer(shift)
    var last: UInt64 = 0
    for range in ranges {
      integer((range.first.rawValue &>> shift) &- last)
      integer(range.lastOffset &>> shift)
      last = range.last.rawValue &>> shift
    }
  }
}
