import Addressing

/// A running number over what a state consists of. Equal states give equal numbers in every
/// process, unlike `Hasher`; no defence against somebody who wants a collision.
struct Digest {
  private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

  mutating func add(_ word: UInt64) {
    value ^= word
    value = value &* 0x9e37_79b9_7f4a_7c15
    value ^= value &>> 29
  }

  /// As much of a text as a record keeps.
  mutating func add(_ text: String) {
    for byte in text.cut(toByteCount: Limits.traceStringByteCountMax).utf8 { add(UInt64(byte)) }
    add(UInt64.max)
  }
}
