/// How fast bytes go out in one round, from the first harvest to the arrival of the last of them,
/// and how fast devices give theirs.
///
/// A write ends when buffers have taken its bytes, not when they have arrived: over a slow link the
/// writes of a round go at the speed of memory until the buffers are full. So what the buffers hold
/// at the end is waited for, by a ping, and counted.
struct PaceMeter {
  /// Bytes, and how long they took.
  private struct Flow {
    var bytes: UInt64 = 0
    var nanoseconds: UInt64 = 0

    mutating func add(_ more: UInt64, _ time: UInt64) {
      bytes &+= more
      nanoseconds &+= time
    }

    var bytesPerSecond: UInt64 { bytes.multiplied(by: 1_000_000_000, over: max(nanoseconds, 1)) }
  }

  /// Fewer bytes measure calls and caches, and no link; nor a device.
  private static let byteCountMin: UInt64 = 512 << 10
  private static let chunkByteCountMin: UInt64 = 16 << 10

  private var link = Flow()
  private var chunks = Flow()
  private var fastestChunk: UInt64?

  /// Pages, from their harvest on, or a chunk of a device.
  mutating func sent(bytes: UInt64, nanoseconds: UInt64) { link.add(bytes, nanoseconds) }

  /// A device gave a chunk. What it takes to send one is the link's: its write may wait for pages
  /// that were written before.
  mutating func read(chunkBytes: UInt64, nanoseconds: UInt64) {
    guard chunkBytes >= Self.chunkByteCountMin else { return }
    var chunk = Flow()
    chunk.add(chunkBytes, nanoseconds)
    chunks.add(chunkBytes, nanoseconds)
    fastestChunk = max(fastestChunk ?? 0, chunk.bytesPerSecond)
  }

  /// What was written last arrived so much later than it was written, the way itself left out.
  mutating func drained(nanoseconds: UInt64) { link.add(0, nanoseconds) }

  /// Nil: nothing was sent.
  var bytesPerSecond: UInt64? { link.bytes > 0 ? link.bytesPerSecond : nil }

  /// It was enough to say how fast more would go.
  var isTelling: Bool { link.bytes >= Self.byteCountMin }

  /// Of what devices gave: the fastest chunk, and all of them. A round has few, and one that the
  /// guest got in the way of is most of their time. Nil: too little to say.
  var deviceBytesPerSecond: (fastest: UInt64, mean: UInt64)? {
    fastestChunk.map { (fastest: $0, mean: chunks.bytesPerSecond) }
  }
}
