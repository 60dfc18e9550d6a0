public import Addressing
public import GuestDirtyLog
import Locking
import Snapshot

/// The last events a tracker took, in memory of a stated size.
///
/// Terms:
/// - **Slot**: the fixed part of an event, 40 bytes. **Payload**: the rest, where there is a rest.
///
/// Invariants:
/// 1. What is kept are the last events without a gap, as many as fit; `firstSequence` says which is
///    the oldest, and equals the number of those dropped.
/// 2. Memory: 40 bytes for each of `eventCountMax` and `byteCountMax` for payloads, no more.
/// 3. Appending a map or an unmap allocates nothing. Reading holds the lock for a few hundred
///    events at a time.
public final class EventRecord: DirtyLogJournal {
  public let eventCountMax: Int
  public let byteCountMax: Int
  private let ring: Mutex<EventRing>
  private let kept = Mutex(KeptSnapshot())

  private struct KeptSnapshot: Sendable {
    var bytes: [UInt8] = []
    /// The first event that a replay from it needs; nil: there is none.
    var firstSequence: UInt64?
    /// Where the payloads stood when it was kept.
    var payloadPosition: UInt64 = 0
  }

  /// - Parameter byteCountMax: bytes for payloads. An event with a larger one is dropped, with all
  ///   before it.
  /// - Precondition: `eventCountMax` is 1 to 2^32, `byteCountMax` 0 to 2^32-1.
  public init(
    eventCountMax: Int = Limits.eventCountMax, byteCountMax: Int = Limits.eventPayloadByteCountMax
  ) {
    precondition(
      eventCountMax >= 1 && eventCountMax <= 1 << 32, "a record keeps 1 to 2^32 events")
    precondition(
      byteCountMax >= 0 && byteCountMax < 1 << 32, "payloads take less than 2^32 bytes")
    self.eventCountMax = eventCountMax
    self.byteCountMax = byteCountMax
    self.ring = Mutex(EventRing(slotCountMax: eventCountMax, payloadByteCountMax: byteCountMax))
  }

  /// - Parameter timestamp: nanoseconds, by the caller's clock; 0 when it has none.
  /// - Returns: its sequence.
  @discardableResult
  public func append(_ event: TrackerEvent, at timestamp: UInt64 = 0) -> JournalPlace {
    var writer = PayloadWriter()
    var slot = writer.encode(event)
    let payload = writer.bytes
    if payload.isEmpty { return append(slot, at: timestamp) }
    slot.timestampNanoseconds = timestamp
    // A payload past 2^32 bytes is past `byteCountMax`, and dropped whatever the slot says.
    slot.payloadByteCount = UInt32(truncatingIfNeeded: payload.count)
    let complete = slot
    return ring.withLock { $0.append(complete, payload: payload) }
  }

  @inline(__always) private func append(_ slot: EventSlot, at timestamp: UInt64) -> JournalPlace {
    var slot = slot
    slot.timestampNanoseconds = timestamp
    let complete = slot
    return ring.withLock { $0.append(complete) }
  }

  public func append(_ entry: DirtyLogEntry) -> JournalPlace { append(.log(entry)) }

  /// ``TrackerEvent/mapped(container:iova:gpaFirst:permissions:isAhead:)``, without making one.
  @discardableResult
  public func appendMapped(
    container: UInt16, iova: IOVARange, gpaFirst: GPA, permissions: Permissions,
    isAhead: Bool = false, at timestamp: UInt64 = 0
  ) -> JournalPlace {
    let slot = EventSlot(
      .mapped, flags: permissions.rawValue | (isAhead ? MappedFlag.isAhead : 0),
      container: container, iova.first.rawValue, iova.last.rawValue, gpaFirst.rawValue)
    return append(slot, at: timestamp)
  }

  /// ``TrackerEvent/unmapped(container:iova:)``, without making one.
  @discardableResult
  public func appendUnmapped(
    container: UInt16, iova: IOVARange, at timestamp: UInt64 = 0
  ) -> JournalPlace {
    let slot = EventSlot(
      .unmapped, container: container, iova.first.rawValue, iova.last.rawValue)
    return append(slot, at: timestamp)
  }

  public var next: JournalPlace { ring.withLock { JournalPlace($0.nextSequence) } }

  /// The state that the events from `firstSequence` on complete, encoded; in place of the one
  /// before. It takes memory of its own, beside that of the events.
  public func keep(snapshot bytes: [UInt8], firstSequence: UInt64) {
    let position = ring.withLock { $0.payloadPosition }
    kept.withLock {
      $0 = KeptSnapshot(bytes: bytes, firstSequence: firstSequence, payloadPosition: position)
    }
  }

  /// Bytes of the snapshot that is kept.
  public var snapshotByteCount: Int { kept.withLock { $0.bytes.count } }

  /// Whether a replay of what is kept gives the state: from the first event on, or from a snapshot.
  public var isReplayable: Bool {
    let oldest = firstSequence
    return oldest == 0 || kept.withLock { $0.firstSequence.map { $0 >= oldest } ?? false }
  }

  /// Whether half of the record's room has gone since its snapshot, or since its beginning: then a
  /// new snapshot keeps it replayable.
  public var needsSnapshot: Bool {
    let (since, position) = kept.withLock { ($0.firstSequence ?? 0, $0.payloadPosition) }
    return ring.withLock { $0.isHalfUsed(since: since, payloadPosition: position) }
  }

  /// Events kept.
  public var count: Int { ring.withLock { $0.count } }
  /// Events dropped, all of them older than those kept.
  public var droppedCount: UInt64 { ring.withLock { $0.firstSequence } }
  /// The sequence of the oldest event kept; 0 while the record can be replayed.
  public var firstSequence: UInt64 { ring.withLock { $0.firstSequence } }
  /// Bytes of payload kept.
  public var payloadByteCount: Int { ring.withLock { $0.payloadByteCount } }

  /// What is kept as of now, with places and times.
  public func recordedEvents() -> [RecordedEvent] {
    var events: [RecordedEvent] = []
    forEachChunk { chunk in
      if chunk.isAfterGap { events.removeAll(keepingCapacity: true) }
      var sequence = chunk.firstSequence
      var offset = 0
      for slot in chunk.slots {
        let end = offset &+ Int(slot.payloadByteCount)
        var reader = PayloadReader(chunk.payload, offset..<end)
        guard let event = try? reader.decode(slot) else {
          preconditionFailure("a record holds an event that it can not read")
        }
        events.append(
          RecordedEvent(
            sequence: sequence, timestampNanoseconds: slot.timestampNanoseconds, event: event))
        offset = end
        sequence &+= 1
      }
    }
    return events
  }

  /// What is kept as of now.
  public func events() -> [TrackerEvent] { recordedEvents().map(\.event) }

  /// What is kept as of now as a trace file.
  public func encoded() -> [UInt8] {
    var writer: TraceWriter?
    let snapshot = kept.withLock { $0 }
    forEachChunk { chunk in
      if chunk.isAfterGap || writer == nil {
        writer = TraceWriter(firstSequence: chunk.firstSequence)
        if let first = snapshot.firstSequence, first >= chunk.firstSequence {
          writer?.append(snapshot: snapshot.bytes)
        }
      }
      var offset = 0
      for slot in chunk.slots {
        let end = offset &+ Int(slot.payloadByteCount)
        writer?.append(slot, payload: chunk.payload[offset..<end])
        offset = end
      }
    }
    var complete = writer ?? TraceWriter(firstSequence: firstSequence)
    return complete.finish()
  }

  private struct Chunk {
    var firstSequence: UInt64
    var slots: [EventSlot] = []
    var payload: [UInt8] = []
    /// Events went between the chunk before and this one: what was read so far is out of date.
    var isAfterGap = false
  }

  /// Copies little at a time, so that who appends never waits for long.
  private func forEachChunk(_ body: (Chunk) -> Void) {
    var (cursor, next) = ring.withLock { ($0.cursorAtOldest, $0.nextSequence) }
    while cursor.sequence < next {
      let chunk = ring.withLock { ring in
        var chunk = Chunk(firstSequence: 0)
        chunk.isAfterGap = ring.read(
          &cursor, slotCount: 256, byteCount: 64 << 10, slots: &chunk.slots,
          payload: &chunk.payload)
        chunk.firstSequence = cursor.sequence &- UInt64(chunk.slots.count)
        return chunk
      }
      body(chunk)
    }
  }
}
