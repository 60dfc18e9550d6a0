/// What of a vCPU must arrive at the destination, for the guest to go on where it stopped.
///
/// 40 bytes, little-endian: magic, writer, generation, random state, place of the sweep.
public struct VirtualCPUState: Hashable, Sendable {
  public static let byteCount = 40
  /// `smudgevc`.
  public static let magic: UInt64 = 0x6376_6567_6475_6d73

  public var writer: UInt64
  /// The generation of its last write; 0 before the first.
  public var generation: UInt64
  public var random: SplitMix64
  /// The offset into its pages that the sweep writes next.
  public var sweep: UInt64

  public init(writer: UInt64, generation: UInt64 = 0, random: SplitMix64, sweep: UInt64 = 0) {
    self.writer = writer
    self.generation = generation
    self.random = random
    self.sweep = sweep
  }

  public func encoded() -> [UInt8] {
    var bytes: [UInt8] = []
    for word in [Self.magic, writer, generation, random.state, sweep] {
      LittleEndian.append(word, to: &bytes)
    }
    return bytes
  }

  /// - Throws: `GuestError.vcpuState` when the bytes are not the state of this writer.
  public init(decoding bytes: [UInt8], writer: UInt64) throws(GuestError) {
    guard bytes.count == Self.byteCount else {
      throw .vcpuState(
        writer: writer, reason: "\(bytes.count) bytes where \(Self.byteCount) are due")
    }
    let words = [0, 8, 16, 24, 32].map { LittleEndian.word(bytes, at: $0) }
    guard words[0] == Self.magic else {
      throw .vcpuState(writer: writer, reason: "it begins with 0x\(String(words[0], radix: 16))")
    }
    guard words[1] == writer else {
      throw .vcpuState(writer: writer, reason: "it is of writer \(words[1])")
    }
    self.init(
      writer: writer, generation: words[2], random: SplitMix64(seed: words[3]), sweep: words[4])
  }
}
