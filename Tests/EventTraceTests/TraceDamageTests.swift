import Addressing
import EventTrace
import TestSupport
import Testing

/// Files that were cut, flipped, lengthened, and made up.
@Suite struct TraceDamageTests {
  private static func sample(seed: UInt64, count: Int) -> (bytes: [UInt8], events: [RecordedEvent])
  {
    var random = RandomEvents(seed: seed)
    var writer = TraceWriter()
    for _ in 0..<count { writer.append(random.next()) }
    let bytes = writer.finish()
    return (bytes, TraceReader(bytes).events)
  }

  /// What holds for every damaged file: it says so, and what it gives is what was written.
  private func problem(_ bytes: [UInt8], _ events: [RecordedEvent]) -> String? {
    let reader = TraceReader(bytes)
    guard let damage = reader.damage else { return "the damage was not noticed" }
    guard reader.events == Array(events.prefix(reader.events.count)) else {
      return "events differ from those written"
    }
    guard reader.events.count <= events.count, damage.byteOffset <= bytes.count else {
      return "\(damage) lies outside"
    }
    return nil
  }

  @Test func `a flip of any bit of a small file is noticed, and what lies before is kept`() {
    let (bytes, events) = Self.sample(seed: 1, count: 12)
    #expect(events.count == 12)
    for index in bytes.indices {
      for bit in 0..<8 {
        var damaged = bytes
        damaged[index] ^= 1 << UInt8(bit)
        #expect(problem(damaged, events) == nil, "byte \(index) bit \(bit)")
      }
    }
  }

  @Test func `a cut anywhere is noticed and said`() {
    let (bytes, events) = Self.sample(seed: 2, count: 12)
    for count in bytes.indices {
      let cut = Array(bytes.prefix(count))
      #expect(problem(cut, events) == nil, "cut to \(count)")
      let kind = TraceReader(cut).damage?.kind
      if count >= 8, case .cut = kind {} else if count >= 8 { Issue.record("\(count): \(kind!)") }
    }
  }

  @Test func `bytes put in or taken out anywhere are noticed`() {
    let (bytes, events) = Self.sample(seed: 3, count: 12)
    for index in 0...bytes.count {
      for value: UInt8 in [0, 0xff, 0x45] {
        var longer = bytes
        longer.insert(value, at: index)
        #expect(problem(longer, events) == nil, "\(value) at \(index)")
      }
      guard index < bytes.count else { continue }
      var shorter = bytes
      shorter.remove(at: index)
      #expect(problem(shorter, events) == nil, "without \(index)")
    }
    #expect(TraceReader(bytes + [1, 2]).damage?.kind == .bytesAfterEnd(count: 2))
    #expect(TraceReader(bytes + [1, 2]).events == events)
  }

  @Test func `random damage to a larger file costs nothing that lies before it`() {
    let seed = TestSeed.seed(default: 71)
    let (bytes, events) = Self.sample(seed: seed, count: 4000)
    #expect(bytes.count > 200_000)
    var random = SeededGenerator(seed: seed)
    let again = TestSeed.reproduce(seed, filter: "TraceDamageTests")
    for _ in 0..<60 {
      var damaged = bytes
      let at = random.below(bytes.count - 100)
      switch random.below(4) {
      case 0: damaged[at] ^= UInt8(1 + random.below(255))
      case 1: damaged.removeSubrange(at..<(at + 1 + random.below(99)))
      case 2: damaged.insert(contentsOf: bytes[at..<(at + 1 + random.below(99))], at: at / 2)
      default: damaged.removeSubrange(at...)
      }
      if damaged == bytes { continue }
      #expect(problem(damaged, events) == nil, "\(again)")
      // Blocks are 64 KiB: what lies more than two before the damage is there.
      let reader = TraceReader(damaged)
      #expect((reader.damage?.byteOffset ?? 0) + (128 << 10) >= at / 2, "\(again)")
    }
  }

  /// With its checksums made right, a made-up file must still not trap. It may well read as
  /// something else, which shows that the comparison above can fail.
  @Test func `a made-up file with right checksums does not trap`() {
    let seed = TestSeed.seed(default: 72)
    var random = SeededGenerator(seed: seed)
    var differences = 0
    var refusals = 0
    for round in 0..<1500 {
      let (bytes, events) = Self.sample(seed: UInt64(round % 16), count: 6)
      var damaged = bytes
      for _ in 0..<(1 + random.below(3)) {
        let at = 64 + random.below(bytes.count - 64 - 32)
        damaged[at] = random.once(in: 3) ? 0xff : UInt8(random.below(256))
      }
      TraceSurgery.fixFirstBlock(&damaged)
      let reader = TraceReader(damaged)
      if reader.damage != nil { refusals += 1 }
      if reader.events != Array(events.prefix(reader.events.count)) { differences += 1 }
    }
    #expect(differences > 100)
    #expect(refusals > 100)
  }

  @Test func `sizes that promise more than there is are refused`() {
    for size: UInt32 in [0xffff_ffff, 0x7fff_ffff, 1 << 20] {
      var (bytes, events) = Self.sample(seed: 4, count: 3)
      TraceSurgery.setBlockByteCount(&bytes, size)
      #expect(problem(bytes, events) == nil)
      guard case .cut = TraceReader(bytes).damage?.kind else {
        Issue.record("a block of \(size) bytes was taken")
        return
      }
    }
  }

  @Test func `an unknown version and a file of something else are told apart`() {
    var (bytes, _) = Self.sample(seed: 5, count: 3)
    bytes[8] = 9
    #expect(TraceReader(bytes).damage?.kind == .unknownVersion(9))
    #expect(TraceReader(Array("# tracer: nop\n".utf8)).damage?.kind == .notATrace)
    #expect(TraceReader([]).damage?.kind == .notATrace)
  }

  @Test func `an empty trace and one without its beginning are sound`() {
    var writer = TraceWriter()
    let empty = TraceReader(writer.finish())
    #expect(empty.isComplete)
    #expect(empty.events.isEmpty)
    var later = TraceWriter(firstSequence: 1000)
    later.append(.globalLogStarted)
    let reader = TraceReader(later.finish())
    #expect(reader.damage == nil)
    #expect(!reader.isComplete)
    #expect(reader.events.map(\.sequence) == [1000])
  }

  @Test func `the bytes can be taken piece by piece`() {
    var random = RandomEvents(seed: 6)
    var whole = TraceWriter()
    var pieces = TraceWriter()
    var taken: [UInt8] = []
    for _ in 0..<4000 {
      let event = random.next()
      whole.append(event)
      pieces.append(event)
      taken += pieces.takeBytes()
    }
    #expect(taken.count > 100_000)
    #expect(taken + pieces.finish() == whole.finish())
  }
}
