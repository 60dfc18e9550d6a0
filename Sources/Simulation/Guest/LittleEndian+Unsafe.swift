/// Words in bytes. Unsafe because words are loaded from raw bytes; sound because `RawSpan` checks
/// the bounds of the load, and every bit pattern is a `UInt64`.
enum LittleEndian {
  static func word(_ bytes: RawSpan, at offset: Int) -> UInt64 {
    UInt64(littleEndian: unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  /// - Precondition: 8 bytes lie at `offset`.
  static func word(_ bytes: [UInt8], at offset: Int) -> UInt64 {
    var word: UInt64 = 0
    for index in 0..<8 { word |= UInt64(bytes[offset + index]) &<< UInt64(index &* 8) }
    return word
  }

  /// The bytes of words as they lie in memory.
  static func withBytes<R>(of words: [UInt64], _ body: (RawSpan) -> R) -> R {
    // Sound: a `UInt64` has no padding, and the span does not outlive the array.
    let span = words.span
    return unsafe body(span.bytes)
  }

  static func append(_ word: UInt64, to bytes: inout [UInt8]) {
    for shift in stride(from: UInt64(0), to: 64, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: word &>> shift))
    }
  }
}
