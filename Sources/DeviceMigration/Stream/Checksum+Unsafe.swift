import CChecksum

/// CRC32C, the copy of guest memory that is summed as it is made, and the test for zero pages.
///
/// Unsafe because the functions of CChecksum take addresses. Sound because each address and count
/// comes from one span that lives through the call, and the bounds are checked here.
enum Checksum {
  static func crc32c(of bytes: RawSpan, continuing crc: UInt32 = 0) -> UInt32 {
    unsafe bytes.withUnsafeBytes { unsafe smudge_crc32c(crc, $0.baseAddress, $0.count) }
  }

  static func crc32c(of bytes: [UInt8], first count: Int? = nil) -> UInt32 {
    ByteAccess.with(bytes, first: count) { crc32c(of: $0) }
  }

  static func copy(_ bytes: [UInt8], into buffer: inout [UInt8], at offset: Int) {
    _ = ByteAccess.with(bytes) { copy($0, into: &buffer, at: offset) }
  }

  /// Copies `bytes` into `buffer` from `offset` on, reading each byte once.
  /// - Returns: the CRC32C of the copy.
  static func copy(_ bytes: RawSpan, into buffer: inout [UInt8], at offset: Int) -> UInt32 {
    precondition(offset >= 0 && bytes.byteCount <= buffer.count - offset, "the copy does not fit")
    return unsafe buffer.withUnsafeMutableBytes { target in
      unsafe bytes.withUnsafeBytes { source in
        guard let base = target.baseAddress else { return 0 }
        return unsafe smudge_copy_crc32c(0, base + offset, source.baseAddress, source.count)
      }
    }
  }

  static func isZero(_ bytes: RawSpan) -> Bool {
    unsafe bytes.withUnsafeBytes { unsafe smudge_is_zero($0.baseAddress, $0.count) } != 0
  }

  /// Makes bytes of guest memory zero. Memory that is zero is left alone: it may not exist yet.
  static func clear(_ bytes: inout MutableRawSpan) {
    let page = StreamFormat.pageByteCount
    unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return }
      for offset in stride(from: 0, to: buffer.count, by: page) {
        let count = min(page, buffer.count - offset)
        if unsafe smudge_is_zero(base + offset, count) == 0 {
          unsafe (base + offset).initializeMemory(as: UInt8.self, repeating: 0, count: count)
        }
      }
    }
  }
}
