package import Addressing

/// What is wrong with the bytes of an event.
package enum PayloadFault: Error {
  case endsEarly
  case outOfRange
}

/// Reads what a `PayloadWriter`, or anybody, has written. Every size is checked against what is
/// left before anything is set aside for it.
package struct PayloadReader {
  package let bytes: [UInt8]
  package private(set) var position: Int
  package let end: Int

  package init(_ bytes: [UInt8]) { self.init(bytes, 0..<bytes.count) }

  package init(_ bytes: [UInt8], _ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "outside the bytes")
    self.bytes = bytes
    self.position = range.lowerBound
    self.end = range.upperBound
  }

  package var remaining: Int { end &- position }

  package mutating func littleEndian<I: FixedWidthInteger & UnsignedInteger>(
    _ type: I.Type
  ) throws(PayloadFault) -> I {
    let size = I.bitWidth / 8
    guard remaining >= size else { throw .endsEarly }
    var value: I = 0
    for index in 0..<size { value |= I(bytes[position &+ index]) &<< I(index &* 8) }
    position &+= size
    return value
  }

  package mutating func integer() throws(PayloadFault) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      guard position < end else { throw .endsEarly }
      let byte = bytes[position]
      position &+= 1
      guard shift < 63 || byte <= 1 else { throw .outOfRange }
      value |= UInt64(byte & 0x7f) &<< shift
      if byte & 0x80 == 0 { return value }
      shift &+= 7
    }
  }

  package mutating func boolean() throws(PayloadFault) -> Bool {
    switch try littleEndian(UInt8.self) {
    case 0: return false
    case 1: return true
    default: throw .outOfRange
    }
  }

  package mutating func optional() throws(PayloadFault) -> UInt64? {
    try boolean() ? try integer() : nil
  }

  package mutating func count() throws(PayloadFault) -> Int? {
    guard let value = try optional() else { return nil }
    guard let count = Int(exactly: value) else { throw .outOfRange }
    return count
  }

  /// The number of elements that follow, each of at least `byteCountMin` bytes.
  package mutating func elementCount(byteCountMin: Int) throws(PayloadFault) -> Int {
    let value = try integer()
    guard value <= UInt64(remaining / byteCountMin) else { throw .endsEarly }
    return Int(value)
  }

  package mutating func string() throws(PayloadFault) -> String {
    let count = try elementCount(byteCountMin: 1)
    guard count <= Limits.traceStringByteCountMax else { throw .outOfRange }
    let text = String(validating: bytes[position..<(position &+ count)], as: UTF8.self)
    guard let text else { throw .outOfRange }
    position &+= count
    return text
  }

  package mutating func ranges<A: Address>(_ type: A.Type) throws(PayloadFault) -> [AddressRange<A>]
  {
    let count = try integer()
    let shift = try integer()
    guard count <= UInt64(remaining / 2) else { throw .endsEarly }
    guard shift == 0 || shift == 12 else { throw .outOfRange }
    let unitMax = UInt64.max &>> shift
    var ranges: [AddressRange<A>] = []
    ranges.reserveCapacity(Int(count))
    var last: UInt64 = 0
    for _ in 0..<Int(count) {
      let first = last &+ (try integer())
      let offset = try integer()
      guard first <= unitMax, offset <= unitMax &- first else { throw .outOfRange }
      last = first &+ offset
      let fill: UInt64 = shift == 0 ? 0 : 0xfff
      ranges.append(AddressRange(first: A(first &<< shift), last: A(last &<< shift | fill)))
    }
    return ranges
  }

  /// One range, checked.
  package static func range<A: Address>(
    _ first: UInt64, _ last: UInt64
  ) throws(PayloadFault) -> AddressRange<A> {
    guard first <= last else { throw .outOfRange }
    return AddressRange(first: A(first), last: A(last))
  }
}
