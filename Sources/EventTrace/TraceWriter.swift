import Snapshot

/// Writes a trace file: see `TraceLayout`. The bytes can be taken piece by piece.
public struct TraceWriter: Sendable {
  private var bytes: [UInt8] = []
  private var block: [UInt8] = []
  private var blockEventCount: UInt32 = 0
  private var blockFirstSequence: UInt64
  private var nextSequence: UInt64

  /// - Parameter firstSequence: of the first event to come; more than 0 says that older ones are
  ///   missing.
  public init(firstSequence: UInt64 = 0) {
    blockFirstSequence = firstSequence
    nextSequence = firstSequence
    bytes.appendLittleEndian(TraceLayout.magic)
    bytes.appendLittleEndian(TraceLayout.version)
    bytes.appendLittleEndian(UInt32(TraceLayout.headerByteCount))
    bytes.appendLittleEndian(firstSequence)
    bytes.appendLittleEndian(UInt32(0))
    bytes.appendLittleEndian(bytes.checksum(0..<bytes.count))
  }

  /// Appends an event as the next in sequence.
  /// - Precondition: its payload is smaller than 2^31 bytes.
  public mutating func append(_ event: TrackerEvent, at timestamp: UInt64 = 0) {
    var writer = PayloadWriter()
    var slot = writer.encode(event)
    slot.timestampNanoseconds = timestamp
    slot.payloadByteCount = UInt32(writer.bytes.count)
    append(slot, payload: writer.bytes[...])
  }

  mutating func append(_ slot: EventSlot, payload: ArraySlice<UInt8>) {
    precondition(payload.count == Int(slot.payloadByteCount), "a slot states its payload's size")
    let size = EventSlot.byteCount &+ payload.count
    if !block.isEmpty, block.count &+ size > TraceLayout.blockByteCountAimed { closeBlock() }
    slot.write(to: &block)
    block.append(contentsOf: payload)
    blockEventCount &+= 1
    nextSequence &+= 1
  }

  /// Puts a snapshot before the first event. One of 4 GiB or more is left out.
  mutating func append(snapshot: [UInt8]) {
    guard UInt32(exactly: snapshot.count) != nil else { return }
    block = snapshot
    writeBlock(TraceLayout.snapshotMagic)
  }

  private mutating func closeBlock() { writeBlock(TraceLayout.blockMagic) }

  private mutating func writeBlock(_ magic: UInt32) {
    writeBlockHeader(magic)
    bytes.append(contentsOf: block)
    block.removeAll(keepingCapacity: true)
    blockEventCount = 0
    blockFirstSequence = nextSequence
  }

  private mutating func writeBlockHeader(_ magic: UInt32) {
    let start = bytes.count
    bytes.appendLittleEndian(magic)
    bytes.appendLittleEndian(UInt32(block.count))
    bytes.appendLittleEndian(blockEventCount)
    bytes.appendLittleEndian(block.checksum(0..<block.count))
    bytes.appendLittleEndian(blockFirstSequence)
    bytes.appendLittleEndian(UInt32(0))
    bytes.appendLittleEndian(bytes.checksum(start..<bytes.count))
  }

  /// What is complete and has not been taken yet.
  public mutating func takeBytes() -> [UInt8] {
    defer { bytes = [] }
    return bytes
  }

  /// Closes the trace and returns what has not been taken yet. Nothing may be appended afterwards.
  public mutating func finish() -> [UInt8] {
    if !block.isEmpty { closeBlock() }
    writeBlockHeader(TraceLayout.endMagic)
    return takeBytes()
  }
}
