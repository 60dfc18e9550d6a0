/// What each write puts at the start of a page, so that it can be told which write a page holds.
///
/// 32 bytes, little-endian: magic, writer, generation, address.
public struct PageHeader: Hashable, Sendable, CustomStringConvertible {
  public static let byteCount = 32
  /// `smudgepg`.
  public static let magic: UInt64 = 0x6770_6567_6475_6d73

  /// Who wrote: unique among vCPUs and devices of one guest.
  public let writer: UInt64
  /// Counts the writer's writes; a later write has a greater one.
  public let generation: UInt64
  /// Where the writer thought it wrote: the GPA for a vCPU, the IOVA for a device.
  public let address: UInt64

  public init(writer: UInt64, generation: UInt64, address: UInt64) {
    self.writer = writer
    self.generation = generation
    self.address = address
  }

  /// The four words, as they lie in memory of this machine.
  public var words: InlineArray<4, UInt64> {
    [
      Self.magic.littleEndian, writer.littleEndian, generation.littleEndian, address.littleEndian,
    ]
  }

  /// Nil where the bytes are no header.
  public init?(decoding bytes: RawSpan) {
    guard bytes.byteCount >= Self.byteCount, Self.word(bytes, 0) == Self.magic else { return nil }
    self.init(
      writer: Self.word(bytes, 8), generation: Self.word(bytes, 16), address: Self.word(bytes, 24))
  }

  public var description: String {
    "write \(generation) of writer \(writer) at 0x" + String(address, radix: 16)
  }

  private static func word(_ bytes: RawSpan, _ offset: Int) -> UInt64 {
    LittleEndian.word(bytes, at: offset)
  }
}
