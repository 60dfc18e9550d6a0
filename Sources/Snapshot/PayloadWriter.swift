package import Addressing

/// The part of an event that has no fixed size: integers of 7 bits a byte, lowest first, the top
/// bit saying that more follow; strings as a byte count and UTF-8; lists as a count and their
/// elements.
package struct PayloadWriter {
  package var bytes: [UInt8] = []

  package init() {}

  package mutating func integer(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest &>>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  package mutating func boolean(_ value: Bool) { bytes.append(value ? 1 : 0) }

  package mutating func optional(_ value: UInt64?) {
    boolean(value != nil)
    if let value { integer(value) }
  }

  /// A count or number that is never negative.
  package mutating func count(_ value: Int?) { optional(value.map { UInt64(max($0, 0)) }) }

  /// Cut at the longest string a reader takes, between two characters.
  package mutating func string(_ text: String) {
    let text = text.cut(toByteCount: Limits.traceStringByteCountMax)
    integer(UInt64(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  /// Ranges, each told by the distance of its first from the last of the one before: in pages of
  /// 4 KiB when all consist of such, which makes an alternating bitmap 2 bytes a run.
  package mutating func ranges(_ ranges: [IOVARange]) { write(ranges) }

  package mutating func ranges(_ ranges: [GPARange]) { write(ranges) }

  /// Millions of ranges in a sync: compiled for each kind of address, not looked up for each range.
  @inline(__always) private mutating func write<A: Address>(_ ranges: [AddressRange<A>]) {
    var misaligned: UInt64 = 0
    for range in ranges { misaligned |= range.first.rawValue | (range.last.rawValue &+ 1) }
    let shift: UInt64 = misaligned & 0xfff == 0 ? 12 : 0
    integer(UInt64(ranges.count))
    integer(shift)
    bytes.reserveCapacity(bytes.count &+ 2 &* ranges.count)
    var last: UInt64 = 0
    for range in ranges {
      integer((range.first.rawValue &>> shift) &- last)
      integer(range.lastOffset &>> shift)
      last = range.last.rawValue &>> shift
    }
  }
}
