public import Addressing
import Locking

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
public final class EventRecord: Sendable {
  public let eventCountMax: Int
  public let byteCountMax: Int
  private let ring: Mutex<EventRing>

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
  public func append(_ event: TrackerEvent, at timestamp: UInt64 = 0) {
    var writer = PayloadWriter()
    var slot = writer.encode(event)
    slot.timestampNanoseconds = timestamp
    let payload = writer.bytes
    if payload.isEmpty {
      ring.withLock { $0.append(slot) }
    } else {
      // A payload past 2^32 bytes is past `byteCountMax`, and dropped whatever the slot says.
      slot.payloadByteCount = UInt32(truncatingIfNeeded: payload.count)
      let complete = slot
      ring.withLock { $0.append(complete, payload: payload) }
    }
  }

  /// ``TrackerEvent/mapped(container:iova:gpaFirst:permissions:)``, without making one.
  public func appendMapped(
    container: UInt16, iova: IOVARange, gpaFirst: GPA, permissions: Permissions,
    at timestamp: UInt64 = 0
  ) {
    var slot = EventSlot(
      .mapped, flags: permissions.rawValue, container: container, iova.first.rawValue,
      iova.last.rawValue, gpaFirst.rawValue)
    slot.timestampNanoseconds = timestamp
    ring.withLock { $0.append(slot) }
  }

  /// ``TrackerEvent/unmapped(container:iova:)``, without making one.
  public func appendUnmapped(container: UInt16, iova: IOVARange, at timestamp: UInt64 = 0) {
    var slot = EventSlot(
      .unmapped, container: container, iova.first.rawValue, iova.last.rawValue)
    slot.timestampNanoseconds = timestamp
    ring.withLock { $0.append(slot) }
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
    forEachChunk { chunk in
      if chunk.isAfterGap || writer == nil {
        writer = TraceWriter(firstSequence: chunk.firstSequence)
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
