/// Bytes between arrays and raw spans. Sound because every copy is bounded by a precondition on
/// both sides, and no pointer leaves the closure it was given to.
package enum DeviceBytes {
  package static func copy(_ bytes: RawSpan) -> [UInt8] {
    unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
  }

  /// Copies `source[range]` to the start of `target`.
  package static func copy(
    _ source: [UInt8], _ range: Range<Int>, into target: inout MutableRawSpan
  ) {
    precondition(range.count <= target.byteCount, "the buffer is too small for the bytes")
    precondition(range.lowerBound >= 0 && range.upperBound <= source.count, "outside the source")
    unsafe target.withUnsafeMutableBytes { to in
      unsafe source.withUnsafeBytes { from in
        unsafe to.copyMemory(from: UnsafeRawBufferPointer(rebasing: from[range]))
      }
    }
  }

  package static func reading<R, E: Error>(
    _ bytes: [UInt8], _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    try body(unsafe bytes.span.bytes)
  }

  package static func reading<R, E: Error>(
    _ bytes: [UInt8], from start: Int, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    try body(unsafe bytes.span.extracting(start..<bytes.count).bytes)
  }

  package static func writing<R, E: Error>(
    _ bytes: inout [UInt8], first count: Int, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R {
    var whole = bytes.mutableSpan
    var span = whole._mutatingExtracting(first: count)
    var raw = unsafe span.mutableBytes
    return try body(&raw)
  }

  /// A 64-bit digest (FNV-1a over little-endian words, then the last bytes), for comparing, not
  /// for safety.
  package static func digest(_ bytes: [UInt8], seed: UInt64 = 0xcbf2_9ce4_8422_2325) -> UInt64 {
    var hash = seed
    unsafe bytes.withUnsafeBytes { buffer in
      var offset = 0
      while offset &+ 8 <= buffer.count {
        let word = unsafe buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        hash = (hash ^ UInt64(littleEndian: word)) &* 0x100_0000_01b3
        hash ^= hash &>> 29
        offset &+= 8
      }
      while offset < buffer.count {
        hash = unsafe (hash ^ UInt64(buffer[offset])) &* 0x100_0000_01b3
        offset &+= 1
      }
    }
    return hash
  }
}
