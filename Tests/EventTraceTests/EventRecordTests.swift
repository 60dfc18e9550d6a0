import Addressing
import EventTrace
import GuestDirtyLog
import Foundation
import Locking
import TestSupport
import Testing

@Suite struct EventRecordTests {
  @Test func `events of every kind come back from the record and from its file`() throws {
    let seed = TestSeed.seed(default: 2007)
    var random = RandomEvents(seed: seed)
    let record = EventRecord(eventCountMax: 1 << 13, byteCountMax: 16 << 20)
    var expected: [RecordedEvent] = []
    for sequence in 0..<4000 {
      let event = random.make(sequence % RandomEvents.kindCount)
      let time = random.random.below(1000 as UInt64)
      record.append(event, at: time)
      expected.append(
        RecordedEvent(sequence: UInt64(sequence), timestampNanoseconds: time, event: event))
    }
    let again = TestSeed.reproduce(seed, filter: "EventRecordTests")
    #expect(record.recordedEvents() == expected, "\(again)")
    #expect(record.droppedCount == 0)
    let reader = TraceReader(record.encoded())
    #expect(reader.damage == nil)
    #expect(reader.isComplete)
    #expect(reader.events == expected, "\(again)")
  }

  @Test func `the fast appends write what the others do`() {
    let iova = AddressRange(first: IOVA(0x1000), last: IOVA(0x2fff))
    let fast = EventRecord(eventCountMax: 8, byteCountMax: 0)
    fast.appendMapped(
      container: 3, iova: iova, gpaFirst: GPA(0x8000), permissions: .write, at: 17)
    fast.appendUnmapped(container: 3, iova: iova, at: 18)
    let slow = EventRecord(eventCountMax: 8, byteCountMax: 0)
    slow.append(
      .mapped(container: 3, iova: iova, gpaFirst: GPA(0x8000), permissions: .write), at: 17)
    slow.append(.unmapped(container: 3, iova: iova), at: 18)
    #expect(fast.recordedEvents() == slow.recordedEvents())
    #expect(fast.encoded() == slow.encoded())
    #expect(fast.count == 2)
  }

  /// The last events that fit, by trying.
  private func kept(_ events: [TrackerEvent], countMax: Int, byteCountMax: Int) -> Int {
    var bytes = 0
    var count = 0
    for event in events.reversed() {
      let single = EventRecord(eventCountMax: 1, byteCountMax: 1 << 20)
      single.append(event)
      bytes += single.payloadByteCount
      if count == countMax || bytes > byteCountMax { break }
      count += 1
    }
    return count
  }

  @Test func `what is kept is the longest end that fits`() {
    let seed = TestSeed.seed(default: 41)
    var random = RandomEvents(seed: seed)
    for _ in 0..<60 {
      let countMax = 1 + random.random.below(40)
      let byteCountMax = random.random.below(3000)
      let record = EventRecord(eventCountMax: countMax, byteCountMax: byteCountMax)
      var events: [TrackerEvent] = []
      for _ in 0..<random.random.below(120) {
        let event = random.next()
        record.append(event)
        events.append(event)
      }
      let again = TestSeed.reproduce(seed, filter: "EventRecordTests")
      let count = kept(events, countMax: countMax, byteCountMax: byteCountMax)
      #expect(record.events() == Array(events.suffix(count)), "\(again)")
      #expect(record.droppedCount == UInt64(events.count - count), "\(again)")
      #expect(record.payloadByteCount <= byteCountMax)
      let reader = TraceReader(record.encoded())
      #expect(reader.damage == nil)
      #expect(reader.firstSequence == record.firstSequence)
      #expect(reader.isComplete == (events.count == count))
      #expect(reader.events == record.recordedEvents(), "\(again)")
    }
  }

  @Test func `threads that append while another reads lose and mix nothing`() {
    let record = EventRecord(eventCountMax: 500, byteCountMax: 4000)
    let counts = Mutex([0, 0])
    let group = DispatchGroup()
    for thread in 0..<2 {
      DispatchQueue.global().async(group: group) {
        for number in 1...3000 {
          // The payload tells the same as the slot, so that a mixture shows.
          record.append(
            .log(
              .consumerAdded(
                consumer: thread * 10_000 + number, name: "\(thread * 10_000 + number)",
                fills: false)), at: UInt64(number))
        }
        counts.withLock { $0[thread] = 3000 }
      }
    }
    var reads = 0
    while counts.withLock({ $0 != [3000, 3000] }) || reads < 3 {
      let events = record.recordedEvents()
      reads += 1
      #expect(isConsistent(events))
    }
    group.wait()
    var mixed = record.recordedEvents()
    #expect(isConsistent(mixed))
    mixed.swapAt(0, 1)
    #expect(!isConsistent(mixed), "the check finds two events that changed places")
    #expect(record.droppedCount + UInt64(record.count) == 6000)
    #expect(TraceReader(record.encoded()).damage == nil)
  }

  private func isConsistent(_ events: [RecordedEvent]) -> Bool {
    var last: [UInt64] = [0, 0]
    for (index, recorded) in events.enumerated() {
      guard case .log(.consumerAdded(let consumer, let name, false)) = recorded.event,
        name == "\(consumer)", let number = UInt64(exactly: consumer),
        recorded.sequence == events[0].sequence + UInt64(index),
        recorded.timestampNanoseconds == number % 10_000,
        last[Int(number / 10_000)] < number
      else { return false }
      last[Int(number / 10_000)] = number
    }
    return true
  }
}
