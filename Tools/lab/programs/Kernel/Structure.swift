/// The bytes of a kernel structure, little-endian, field after field.
struct Structure {
  private(set) var bytes: [UInt8] = []

  func u16(_ value: UInt16) -> Structure { adding(UInt64(value), 2) }
  func u32(_ value: UInt32) -> Structure { adding(UInt64(value), 4) }
  func u64(_ value: UInt64) -> Structure { adding(value, 8) }

  private func adding(_ value: UInt64, _ byteCount: Int) -> Structure {
    var copy = self
    for index in 0..<byteCount { copy.bytes.append(UInt8(truncatingIfNeeded: value >> (index * 8))) }
    return copy
  }

  static func load(_ bytes: [UInt8], at offset: Int, byteCount: Int = 8) -> UInt64 {
    (0..<byteCount).reduce(0) { $0 | UInt64(bytes[offset + $1]) << ($1 * 8) }
  }
}
