import Glibc

/// Arrays as raw bytes. Unsafe because of `memcmp` and of spans over arrays of bytes; sound because
/// bytes have no padding, no span outlives its array, and lengths are checked before a comparison.
enum SampleBytes {
  static func reading<R, E: Error>(
    _ bytes: [UInt8], _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    try unsafe body(bytes.span.bytes)
  }

  static func writing<R, E: Error>(
    _ bytes: inout [UInt8], _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R {
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    return try body(&raw)
  }

  /// Calls `body` with the index of each page of `pageByteCount` bytes in which the two differ.
  /// - Precondition: both are of the same length, whole pages.
  static func forEachDifference(
    _ left: RawSpan, _ right: RawSpan, pageByteCount: Int, _ body: (Int) -> Void
  ) {
    precondition(left.byteCount == right.byteCount && left.byteCount % pageByteCount == 0)
    unsafe left.withUnsafeBytes { left in
      unsafe right.withUnsafeBytes { right in
        guard let a = left.baseAddress, let b = right.baseAddress else { return }
        for page in 0..<(left.count / pageByteCount)
        where unsafe memcmp(a + page * pageByteCount, b + page * pageByteCount, pageByteCount) != 0
        {
          body(page)
        }
      }
    }
  }
}
