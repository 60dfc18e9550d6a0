/// Little-endian numbers into bytes.
struct ByteWriter {
  var bytes: [UInt8] = []

  mutating func append(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}

/// Little-endian numbers out of bytes.
struct ByteReader {
  let bytes: [UInt8]
  private(set) var offset: Int

  init(bytes: [UInt8], offset: Int) {
    self.bytes = bytes
    self.offset = offset
  }

  mutating func take<T: FixedWidthInteger>(_ type: T.Type) throws(PCIFault) -> T {
    let count = T.bitWidth / 8
    guard offset >= 0, bytes.count - offset >= count else {
      throw .damaged("it ends at byte \(bytes.count)")
    }
    var value: T = 0
    for index in 0..<count {
      value |= T(truncatingIfNeeded: bytes[offset + index]) << (8 * index)
    }
    offset += count
    return value
  }

  mutating func takeFlag() throws(PCIFault) -> Bool {
    let byte = try take(UInt8.self)
    guard byte <= 1 else { throw .damaged("a flag of it is \(byte)") }
    return byte == 1
  }
}

/// CRC-32C (Castagnoli), reflected, as iSCSI uses it (RFC 3720, 12.1).
enum ConfigurationChecksum {
  private static let table: [UInt32] = (0..<256).map { byte in
    var value = UInt32(byte)
    for _ in 0..<8 { value = value & 1 == 0 ? value >> 1 : value >> 1 ^ 0x82f6_3b78 }
    return value
  }

  static func crc32c(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    var value = UInt32.max
    for byte in bytes { value = value >> 8 ^ table[Int(UInt8(truncatingIfNeeded: value) ^ byte)] }
    return ~value
  }
}
