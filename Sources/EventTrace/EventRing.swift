import GuestDirtyLog

/// The events kept: slots in one ring, payloads in another, both of a size that never changes.
///
/// Invariants:
/// 1. The slots kept have consecutive sequences, from `firstSequence` on.
/// 2. The payloads of the slots kept, and no others, lie in order in the payload ring.
struct EventRing: Sendable {
  let slotCountMax: Int
  let payloadByteCountMax: Int

  private var slots: [EventSlot] = []
  private var oldest = 0
  private(set) var count = 0
  private(set) var firstSequence: UInt64 = 0

  private var payload: [UInt8] = []
  private var payloadFirst = 0
  private(set) var payloadByteCount = 0
  /// Bytes of payload dropped so far: the place of the first one kept, counted from the beginning.
  private var payloadDroppedByteCount: UInt64 = 0

  /// Memory is set aside at once and touched as it is used.
  init(slotCountMax: Int, payloadByteCountMax: Int) {
    self.slotCountMax = slotCountMax
    self.payloadByteCountMax = payloadByteCountMax
    slots.reserveCapacity(slotCountMax)
    payload.reserveCapacity(payloadByteCountMax)
  }

  /// Bytes of payload that were ever appended.
  var payloadPosition: UInt64 { payloadDroppedByteCount &+ UInt64(payloadByteCount) }

  /// Whether what was appended since takes half of the room there is.
  func isHalfUsed(since sequence: UInt64, payloadPosition position: UInt64) -> Bool {
    nextSequence &- sequence >= UInt64(max(1, slotCountMax / 2))
      || payloadPosition &- position >= UInt64(max(1, payloadByteCountMax / 2))
  }

  var nextSequence: UInt64 { firstSequence &+ UInt64(count) }

  /// Appends, and drops the oldest where there is no room.
  @inline(__always) mutating func append(_ slot: EventSlot) -> JournalPlace {
    if count == slotCountMax { dropOldest() }
    if slots.count < slotCountMax {
      slots.append(slot)
    } else {
      slots[wrapped(oldest &+ count, slotCountMax)] = slot
    }
    count &+= 1
    return JournalPlace(firstSequence &+ UInt64(count) &- 1)
  }

  /// A payload that can never fit drops its event with all before it: what is kept has no gap.
  mutating func append(_ slot: EventSlot, payload bytes: [UInt8]) -> JournalPlace {
    guard bytes.count <= payloadByteCountMax else {
      while count > 0 { dropOldest() }
      firstSequence &+= 1
      return JournalPlace(firstSequence &- 1)
    }
    while payloadByteCountMax &- payloadByteCount < bytes.count { dropOldest() }
    // A full slot ring gives up its oldest before the bytes go in behind it.
    if count == slotCountMax { dropOldest() }
    write(bytes)
    return append(slot)
  }

  private mutating func dropOldest() {
    let size = Int(slots[oldest].payloadByteCount)
    if size != 0 {
      payloadFirst = wrapped(payloadFirst &+ size, payloadByteCountMax)
      payloadByteCount &-= size
      payloadDroppedByteCount &+= UInt64(size)
    }
    oldest = wrapped(oldest &+ 1, slotCountMax)
    count &-= 1
    firstSequence &+= 1
  }

  /// `index` is less than twice `size`.
  @inline(__always) private func wrapped(_ index: Int, _ size: Int) -> Int {
    index < size ? index : index &- size
  }

  private mutating func write(_ bytes: [UInt8]) {
    let at = wrapped(payloadFirst &+ payloadByteCount, payloadByteCountMax)
    let early = min(bytes.count, payloadByteCountMax &- at)
    put(bytes[..<early], at: at)
    if early < bytes.count { put(bytes[early...], at: 0) }
    payloadByteCount &+= bytes.count
  }

  private mutating func put(_ bytes: ArraySlice<UInt8>, at index: Int) {
    let overwritten = min(payload.count &- index, bytes.count)
    if overwritten > 0 {
      payload.replaceSubrange(
        index..<(index &+ overwritten), with: bytes.prefix(overwritten))
    }
    payload.append(contentsOf: bytes.dropFirst(max(overwritten, 0)))
  }

  /// Where a reader stands: a sequence, and the bytes of payload before it since the beginning.
  struct Cursor {
    var sequence: UInt64
    fileprivate var payloadPosition: UInt64
  }

  var cursorAtOldest: Cursor {
    Cursor(sequence: firstSequence, payloadPosition: payloadDroppedByteCount)
  }

  /// Copies up to `slotCount` slots, fewer when their payloads come to `byteCount`, and moves the
  /// cursor behind them. A cursor that the ring has overtaken begins again at the oldest.
  /// - Returns: whether it was overtaken.
  func read(
    _ cursor: inout Cursor, slotCount: Int, byteCount: Int, slots copied: inout [EventSlot],
    payload bytes: inout [UInt8]
  ) -> Bool {
    let isOvertaken = cursor.sequence < firstSequence
    if isOvertaken { cursor = cursorAtOldest }
    var offset = Int(cursor.payloadPosition &- payloadDroppedByteCount)
    let start = bytes.count
    var index = Int(cursor.sequence &- firstSequence)
    while index < count, copied.count < slotCount, bytes.count &- start < byteCount {
      let slot = slots[wrapped(oldest &+ index, slotCountMax)]
      copied.append(slot)
      let size = Int(slot.payloadByteCount)
      copyPayload(offset, size, into: &bytes)
      offset &+= size
      index &+= 1
    }
    cursor = Cursor(
      sequence: firstSequence &+ UInt64(index),
      payloadPosition: payloadDroppedByteCount &+ UInt64(offset))
    return isOvertaken
  }

  private func copyPayload(_ offset: Int, _ size: Int, into bytes: inout [UInt8]) {
    guard size > 0 else { return }
    let at = wrapped(payloadFirst &+ offset, payloadByteCountMax)
    let early = min(size, payloadByteCountMax &- at)
    bytes.append(contentsOf: payload[at..<(at &+ early)])
    bytes.append(contentsOf: payload[0..<(size &- early)])
  }
}
