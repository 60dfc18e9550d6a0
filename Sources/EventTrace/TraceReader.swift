public import Snapshot

/// Reads a trace file up to its end or to the first damage.
///
/// Invariants:
/// 1. Whatever the bytes are, it does not trap, and takes memory in proportion to them.
/// 2. The events before the damage are those that were written.
public struct TraceReader: Sendable {
  public private(set) var events: [RecordedEvent] = []
  /// Nil: the trace is complete and sound.
  public private(set) var damage: TraceDamage?
  /// The sequence of the first event the trace has, or would have: as many are missing before it.
  public private(set) var firstSequence: UInt64 = 0

  /// A state that the events from its first sequence on complete; nil: the trace has none.
  public private(set) var snapshot: TrackerSnapshot?

  private let bytes: [UInt8]
  private var position = 0
  private var nextSequence: UInt64 = 0

  public init(_ bytes: [UInt8]) {
    self.bytes = bytes
    guard readHeader() else { return }
    while readBlock() {}
  }

  /// Nothing is damaged, and the trace goes back to the first event or has a snapshot of what came
  /// before: it can be replayed to the state it was taken from.
  public var isComplete: Bool {
    damage == nil && (firstSequence == 0 || usableSnapshot != nil)
  }

  /// The snapshot, where the trace has every event that it needs.
  public var usableSnapshot: TrackerSnapshot? {
    snapshot.flatMap { $0.firstSequence >= firstSequence ? $0 : nil }
  }

  private mutating func fail(_ kind: TraceDamage.Kind, at offset: Int? = nil) -> Bool {
    damage = TraceDamage(kind: kind, byteOffset: offset ?? position, sequence: nextSequence)
    return false
  }

  /// True when `count` bytes are there and, its last 4 left out, sum up to what they state.
  private func isSoundHeader(_ count: Int) -> Bool {
    var reader = PayloadReader(bytes, (position &+ count &- 4)..<(position &+ count))
    return (try? reader.littleEndian(UInt32.self))
      == bytes.checksum(position..<(position &+ count &- 4))
  }

  private mutating func readHeader() -> Bool {
    var reader = PayloadReader(bytes)
    guard let magic = try? reader.littleEndian(UInt64.self), magic == TraceLayout.magic else {
      return fail(.notATrace)
    }
    let missing = TraceLayout.headerByteCount &- bytes.count
    guard missing <= 0 else { return fail(.cut(missing: missing)) }
    guard let version = try? reader.littleEndian(UInt32.self),
      let size = try? reader.littleEndian(UInt32.self),
      let first = try? reader.littleEndian(UInt64.self),
      let zero = try? reader.littleEndian(UInt32.self)
    else { return fail(.badHeader) }
    guard version == TraceLayout.version else { return fail(.unknownVersion(version)) }
    guard size == UInt32(TraceLayout.headerByteCount), zero == 0,
      isSoundHeader(TraceLayout.headerByteCount)
    else { return fail(.badHeader) }
    firstSequence = first
    nextSequence = first
    position = TraceLayout.headerByteCount
    return true
  }

  /// False after the last block and at the first damage.
  private mutating func readBlock() -> Bool {
    let missing = TraceLayout.blockHeaderByteCount &- (bytes.count &- position)
    guard missing <= 0 else { return fail(.cut(missing: missing)) }
    guard isSoundHeader(TraceLayout.blockHeaderByteCount), let header = blockHeader() else {
      return fail(.badHeader)
    }
    guard header.firstSequence == nextSequence else {
      return fail(.sequenceGap(expected: nextSequence, found: header.firstSequence))
    }
    let body = position &+ TraceLayout.blockHeaderByteCount
    guard header.byteCount <= bytes.count &- body else {
      return fail(.cut(missing: header.byteCount &- (bytes.count &- body)))
    }
    let range = body..<(body &+ header.byteCount)
    let checksum = bytes.checksum(range)
    guard checksum == header.checksum else {
      return fail(.badChecksum(stated: header.checksum, found: checksum))
    }
    if header.isSnapshot {
      guard events.isEmpty, snapshot == nil, readSnapshot(range) else { return fail(.badSnapshot) }
      position = range.upperBound
      return true
    }
    guard readEvents(range, count: header.eventCount) else { return false }
    position = range.upperBound
    guard header.isEnd else { return true }
    if position != bytes.count { _ = fail(.bytesAfterEnd(count: bytes.count &- position)) }
    return false
  }

  private mutating func readSnapshot(_ range: Range<Int>) -> Bool {
    let reader = SnapshotReader(Array(bytes[range]))
    guard reader.damageByteOffset == nil else { return false }
    snapshot = reader.snapshot
    return true
  }

  private struct BlockHeader {
    var isEnd: Bool
    var isSnapshot: Bool
    var byteCount: Int
    var eventCount: Int
    var checksum: UInt32
    var firstSequence: UInt64
  }

  /// Nil when it states what cannot be.
  private func blockHeader() -> BlockHeader? {
    var reader = PayloadReader(
      bytes, position..<(position &+ TraceLayout.blockHeaderByteCount))
    guard let magic = try? reader.littleEndian(UInt32.self),
      let byteCount = try? reader.littleEndian(UInt32.self),
      let eventCount = try? reader.littleEndian(UInt32.self),
      let checksum = try? reader.littleEndian(UInt32.self),
      let first = try? reader.littleEndian(UInt64.self),
      let zero = try? reader.littleEndian(UInt32.self), zero == 0,
      magic == TraceLayout.blockMagic || magic == TraceLayout.endMagic
        || magic == TraceLayout.snapshotMagic,
      (magic == TraceLayout.blockMagic) == (eventCount != 0),
      (magic == TraceLayout.endMagic) == (byteCount == 0)
    else { return nil }
    return BlockHeader(
      isEnd: magic == TraceLayout.endMagic, isSnapshot: magic == TraceLayout.snapshotMagic,
      byteCount: Int(byteCount),
      eventCount: Int(eventCount), checksum: checksum, firstSequence: first)
  }

  private mutating func readEvents(_ range: Range<Int>, count: Int) -> Bool {
    var reader = PayloadReader(bytes, range)
    for _ in 0..<count {
      let offset = reader.position
      guard let slot = try? EventSlot(from: &reader),
        Int(slot.payloadByteCount) <= reader.remaining
      else { return fail(.badHeader, at: offset) }
      let end = reader.position &+ Int(slot.payloadByteCount)
      var payload = PayloadReader(bytes, reader.position..<end)
      guard nextSequence != .max, let event = try? payload.decode(slot) else {
        return fail(.badEvent(kind: slot.kind), at: offset)
      }
      events.append(
        RecordedEvent(
          sequence: nextSequence, timestampNanoseconds: slot.timestampNanoseconds, event: event))
      nextSequence &+= 1
      reader = PayloadReader(bytes, end..<range.upperBound)
    }
    return reader.remaining == 0 ? true : fail(.badHeader, at: reader.position)
  }
}
