import CSmudgeLinux

/// Integers in messages. The protocol is in host byte order and its hosts are little-endian.
///
/// Unsafe because integers are read from and written to bytes. Sound because every access is
/// bounded
/// by a precondition, integers have no invalid pattern, and no pointer leaves its closure.
enum WireBytes {
  static func load<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, from bytes: [UInt8], at offset: Int
  ) -> T {
    let size = MemoryLayout<T>.size
    precondition(offset >= 0 && bytes.count >= size && offset <= bytes.count - size, "past the end")
    return T(
      littleEndian: unsafe bytes.withUnsafeBytes {
        unsafe $0.loadUnaligned(fromByteOffset: offset, as: T.self)
      })
  }

  static func append<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, to bytes: inout [UInt8]) {
    unsafe withUnsafeBytes(of: value.littleEndian) { unsafe bytes.append(contentsOf: $0) }
  }

  /// Calls `body` with the bytes from `start` on.
  static func reading<R, E: Error>(
    _ bytes: [UInt8], from start: Int, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    try body(unsafe bytes.span.extracting(start..<bytes.count).bytes)
  }

  /// Calls `body` with the bytes from `start` on, to be written.
  static func writing<R, E: Error>(
    _ bytes: inout [UInt8], from start: Int, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R {
    let end = bytes.count
    var whole = bytes.mutableSpan
    var part = whole._mutatingExtracting(start..<end)
    var raw = unsafe part.mutableBytes
    return try body(&raw)
  }

  static func array(_ bytes: RawSpan) -> [UInt8] {
    unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
  }
}
