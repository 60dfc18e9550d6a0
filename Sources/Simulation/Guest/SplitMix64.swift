/// A random source whose whole state is one word, so that it travels with what it drives
/// (SplitMix64, Steele, Lea and Flood 2014).
public struct SplitMix64: RandomNumberGenerator, Hashable, Sendable {
  public private(set) var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z &>> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z &>> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z &>> 31)
  }

  /// A number under `bound`, uniform but for one part in 2^64 / `bound`.
  /// - Precondition: `bound` is not 0.
  public mutating func below(_ bound: UInt64) -> UInt64 {
    next().multipliedFullWidth(by: bound).high
  }

  /// - Precondition: `bound` is positive.
  public mutating func below(_ bound: Int) -> Int { Int(below(UInt64(bound))) }

  /// True once in `outOf` on average.
  public mutating func once(in outOf: Int) -> Bool { below(outOf) == 0 }

  /// An independent source, the same for the same seed and purpose.
  public func derived(for purpose: UInt64) -> SplitMix64 {
    var mixer = SplitMix64(seed: state ^ (purpose &* 0xd6e8_feb8_6659_fd93))
    return SplitMix64(seed: mixer.next())
  }
}
