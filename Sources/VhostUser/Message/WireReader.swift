/// Numbers of the machine's byte order from bytes whose count the caller has checked.
struct WireReader {
  private let bytes: [UInt8]
  private var position: Int

  init(_ bytes: [UInt8], at position: Int = 0) {
    self.bytes = bytes
    self.position = position
  }

  mutating func word32() -> UInt32 { UInt32(truncatingIfNeeded: number(byteCount: 4)) }

  mutating func word64() -> UInt64 { number(byteCount: 8) }

  mutating func rest() -> [UInt8] {
    defer { position = bytes.count }
    return Array(bytes[position...])
  }

  private mutating func number(byteCount: Int) -> UInt64 {
    precondition(bytes.count - position >= byteCount, "the payload's size was checked before")
    var value: UInt64 = 0
    for index in 0..<byteCount {
      value |= UInt64(bytes[position + index]) &<< UInt64(8 * index)
    }
    position += byteCount
    return value
  }
}

/// Numbers as bytes, little-endian: the byte order of every machine this runs on.
struct WireWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ value: UInt32) { append(UInt64(value), byteCount: 4) }

  mutating func append(_ value: UInt64) { append(value, byteCount: 8) }

  mutating func append(_ more: [UInt8]) { bytes += more }

  private mutating func append(_ value: UInt64, byteCount: Int) {
    for index in 0..<byteCount {
      bytes.append(UInt8(truncatingIfNeeded: value &>> UInt64(8 * index)))
    }
  }
}
