import CChecksum
import TestSupport
import Testing

/// Unsafe because the checksum takes addresses. Sound because each is lent by an array for one call
/// that stays inside it.
@Suite(.serialized) struct ChecksumTests {
  private static func sum(_ bytes: [UInt8], _ range: Range<Int>, from start: UInt32 = 0) -> UInt32 {
    unsafe bytes.withUnsafeBytes {
      unsafe smudge_crc32c(start, $0.baseAddress! + range.lowerBound, range.count)
    }
  }

  @Test func `known values`() {
    let digits = Array("123456789".utf8)
    #expect(Self.sum(digits, 0..<9) == 0xe306_9283)
    // RFC 3720 B.4: 32 bytes of zeroes, of ones, and 0 to 31.
    #expect(Self.sum([UInt8](repeating: 0, count: 32), 0..<32) == 0x8a91_36aa)
    #expect(Self.sum([UInt8](repeating: 0xff, count: 32), 0..<32) == 0x62a8_ab43)
    #expect(Self.sum((0..<32).map { UInt8($0) }, 0..<32) == 0x46dd_794e)
    #expect(Self.sum(digits, 0..<0, from: 77) == 77)
  }

  @Test func `every level agrees with the definition, in one piece, in two and copying`() {
    let seed = TestSeed.seed(default: 11)
    var random = SeededGenerator(seed: seed)
    let bytes = (0..<60_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    defer { smudge_crc32c_force_level(smudge_crc32c_best_level()) }
    for level in 0...smudge_crc32c_best_level() {
      #expect(smudge_crc32c_force_level(level) == 0)
      // Around the borders of one and three stretches of 512 and of 8192 bytes.
      var counts = Array(0..<40) + [1535, 1536, 1537, 4096, 24_575, 24_576, 24_577, 26_112, 50_001]
      counts += (0..<10).map { _ in random.below(5000) }
      for count in counts {
        let first = random.below(bytes.count - count)
        let range = first..<(first + count)
        let start = UInt32(truncatingIfNeeded: random.next())
        let expected = ReferenceChecksum.crc32c(bytes[range], from: start)
        #expect(Self.sum(bytes, range, from: start) == expected, "level \(level), \(count) bytes")
        let half = first..<(first + count / 2)
        let joined = Self.sum(
          bytes, half.upperBound..<range.upperBound, from: Self.sum(bytes, half, from: start))
        #expect(joined == expected, "level \(level), \(count) bytes in two pieces")
        var copy = [UInt8](repeating: 0xee, count: count + 2)
        let copied = unsafe copy.withUnsafeMutableBytes { to in
          unsafe bytes.withUnsafeBytes { from in
            unsafe smudge_copy_crc32c(start, to.baseAddress! + 1, from.baseAddress! + first, count)
          }
        }
        #expect(copied == expected)
        #expect(copy == [0xee] + Array(bytes[range]) + [0xee])
      }
    }
    #expect(smudge_crc32c_force_level(smudge_crc32c_best_level() + 1) == -1)
  }
}
