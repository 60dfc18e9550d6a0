import CChecksum

// Unsafe because integers are appended, and checksums taken, by address. Sound because each pointer
// is used only inside the closure that lends it, with the count it was lent with.

extension [UInt8] {
  package mutating func appendLittleEndian<I: FixedWidthInteger & BitwiseCopyable>(_ value: I) {
    unsafe Swift.withUnsafeBytes(of: value.littleEndian) { unsafe self.append(contentsOf: $0) }
  }

  /// CRC32C of the bytes in `range`, which must lie inside.
  package func checksum(_ range: Range<Int>) -> UInt32 {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "the range lies outside")
    return unsafe withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe smudge_crc32c(0, base + range.lowerBound, range.count)
    }
  }
}
