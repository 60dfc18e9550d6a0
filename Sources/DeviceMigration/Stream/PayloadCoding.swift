/// Numbers and texts of a payload, little-endian, texts with their byte count before them.
struct PayloadEncoder {
  private(set) var bytes: [UInt8] = []

  init(capacity: Int = 256) { bytes.reserveCapacity(capacity) }

  mutating func append<Number: FixedWidthInteger>(_ value: Number) {
    var rest = value
    for _ in 0..<(Number.bitWidth / 8) {
      bytes.append(UInt8(truncatingIfNeeded: rest))
      rest = Number.bitWidth > 8 ? rest >> 8 : 0
    }
  }

  /// Cut to ``StreamFormat/textByteCountMax``, at a character.
  mutating func append(_ text: String) {
    var kept = text
    while kept.utf8.count > StreamFormat.textByteCountMax { kept.removeLast() }
    append(UInt16(kept.utf8.count))
    bytes.append(contentsOf: kept.utf8)
  }
}

/// Reads what ``PayloadEncoder`` wrote. Nil where bytes are missing or are no text.
struct PayloadDecoder {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { position == bytes.count }
  var remainingByteCount: Int { bytes.count - position }

  mutating func next<Number: FixedWidthInteger>() -> Number? {
    let count = Number.bitWidth / 8
    guard remainingByteCount >= count else { return nil }
    var value: Number = 0
    for index in (position..<(position + count)).reversed() {
      value = (Number.bitWidth > 8 ? value << 8 : 0) | Number(truncatingIfNeeded: bytes[index])
    }
    position += count
    return value
  }

  mutating func nextText() -> String? {
    guard let count: UInt16 = next(), Int(count) <= StreamFormat.textByteCountMax,
      remainingByteCount >= Int(count)
    else { return nil }
    let text = String(validating: bytes[position..<(position + Int(count))], as: UTF8.self)
    position += Int(count)
    return text
  }
}
