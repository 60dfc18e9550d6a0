/// Changes to a trace file that leave its checksums right. The layout is stated here once more, by
/// hand, so that the tests hold it.
enum TraceSurgery {
  private static func set(_ bytes: inout [UInt8], _ at: Int, _ value: UInt32) {
    for index in 0..<4 { bytes[at + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
  }

  private static func get(_ bytes: [UInt8], _ at: Int) -> Int {
    (0..<4).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
  }

  private static func fixHeader(_ bytes: inout [UInt8]) {
    set(&bytes, 32 + 28, ReferenceChecksum.crc32c(bytes[32..<60]))
  }

  /// The checksums of the block behind the file's header.
  static func fixFirstBlock(_ bytes: inout [UInt8]) {
    let count = min(get(bytes, 32 + 4), bytes.count - 64)
    set(&bytes, 32 + 12, ReferenceChecksum.crc32c(bytes[64..<(64 + count)]))
    fixHeader(&bytes)
  }

  static func setBlockByteCount(_ bytes: inout [UInt8], _ count: UInt32) {
    set(&bytes, 32 + 4, count)
    fixHeader(&bytes)
  }
}

/// CRC32C a bit at a time, as RFC 3720 defines it.
enum ReferenceChecksum {
  static func crc32c(_ bytes: some Sequence<UInt8>, from start: UInt32 = 0) -> UInt32 {
    var crc = ~start
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : crc >> 1 ^ 0x82f6_3b78 }
    }
    return ~crc
  }
}
