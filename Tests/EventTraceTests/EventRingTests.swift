@testable import EventTrace
import Testing

/// A ring that goes on while somebody reads it.
@Suite struct EventRingTests {
  private static func slot(_ number: Int) -> EventSlot {
    var slot = EventSlot(.unmapped, container: 0, UInt64(number), UInt64(number))
    // Sizes that make payloads wrap at another place than slots.
    slot.payloadByteCount = UInt32(number % 4)
    return slot
  }

  private static func append(_ number: Int, to ring: inout EventRing) {
    let slot = slot(number)
    _ = ring.append(
      slot, payload: [UInt8](repeating: UInt8(number), count: Int(slot.payloadByteCount)))
  }

  @Test func `a reader whom the ring overtook by any number of events begins at the oldest`() {
    for appended in 0...20 {
      var ring = EventRing(slotCountMax: 8, payloadByteCountMax: 64)
      for number in 0..<8 { Self.append(number, to: &ring) }
      var cursor = ring.cursorAtOldest
      var (slots, payload): ([EventSlot], [UInt8]) = ([], [])
      #expect(!ring.read(&cursor, slotCount: 3, byteCount: 64, slots: &slots, payload: &payload))
      for number in 8..<8 + appended { Self.append(number, to: &ring) }
      (slots, payload) = ([], [])
      let isOvertaken = ring.read(
        &cursor, slotCount: 100, byteCount: 64, slots: &slots, payload: &payload)
      // Three were read, so that a fourth one has to go before any is missed.
      #expect(isOvertaken == (appended > 3), "\(appended) more")
      let first = max(3, appended)
      let expected = Array(first..<8 + appended)
      #expect(slots.map(\.first) == expected.map(UInt64.init), "\(appended) more")
      let bytes = expected.flatMap { [UInt8](repeating: UInt8($0), count: $0 % 4) }
      #expect(payload == bytes, "\(appended) more")
      #expect(cursor.sequence == UInt64(8 + appended))
    }
  }
}
