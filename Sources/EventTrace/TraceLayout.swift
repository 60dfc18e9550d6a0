/// The numbers of a trace file. All integers are little-endian; Docs/TRACE.md has the tables.
///
/// A header, blocks of events, and a block without events that says the file is complete. Each has
/// a checksum of its own, so that damage costs what follows it and nothing before it.
enum TraceLayout {
  /// `SMUDGETR`.
  static let magic: UInt64 = 0x5254_4547_4455_4d53
  static let version: UInt32 = 4
  /// Magic 8, version 4, size of this header 4, first sequence 8, zero 4, CRC32C of the 28 before.
  static let headerByteCount = 32
  /// `EVTS`.
  static let blockMagic: UInt32 = 0x5354_5645
  /// `SNAP`: a snapshot that the events complete. No event comes before it.
  static let snapshotMagic: UInt32 = 0x5041_4e53
  /// `DONE`.
  static let endMagic: UInt32 = 0x454e_4f44
  /// Magic 4, body bytes 4, events 4, CRC32C of the body 4, first sequence 8, zero 4, CRC32C of the
  /// 28 before.
  static let blockHeaderByteCount = 32
  /// A block is closed when the next event would make it larger; one event may make it so alone.
  static let blockByteCountAimed = 64 << 10
}
