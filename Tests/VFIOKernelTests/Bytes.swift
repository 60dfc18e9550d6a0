/// Numbers in the bytes of a request, by the offsets of the kernel's headers and not by the
/// structures under test.
struct Bytes {
  var bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }
  init(count: Int) { bytes = [UInt8](repeating: 0, count: count) }

  func load<T: FixedWidthInteger>(_ type: T.Type, _ offset: Int) -> T {
    var value: T = 0
    for index in 0..<T.bitWidth / 8 {
      value |= T(truncatingIfNeeded: bytes[offset + index]) << (8 * index)
    }
    return value
  }

  mutating func store<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
    for index in 0..<T.bitWidth / 8 {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
    }
  }

  func u32(_ offset: Int) -> UInt32 { load(UInt32.self, offset) }
  func u64(_ offset: Int) -> UInt64 { load(UInt64.self, offset) }

  /// A structure written field by field: values of 4 and 8 bytes one after the other.
  static func structure(_ fields: any FixedWidthInteger...) -> [UInt8] {
    var result: [UInt8] = []
    func append<T: FixedWidthInteger>(_ field: T) {
      var part = Bytes(count: T.bitWidth / 8)
      part.store(field, 0)
      result += part.bytes
    }
    for field in fields { append(field) }
    return result
  }
}
