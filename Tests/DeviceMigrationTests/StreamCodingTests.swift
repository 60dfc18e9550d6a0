import Addressing
import DeviceMigration
import GuestDirtyLog
import TestSupport
import Testing

@Suite struct StreamCodingTests {
  @Test func `a header reads back as it was written, for random values`() throws {
    let seed = TestSeed.seed(default: 71)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      let kind = StreamSectionKind.allCases[random.below(StreamSectionKind.allCases.count)]
      let section = StreamSection(
        kind, payloadByteCount: random.below(Limits.streamSectionByteCountMax + 1),
        sequence: random.next(), argument: random.next(),
        count: UInt32(truncatingIfNeeded: random.next()),
        payloadChecksum: UInt32(truncatingIfNeeded: random.next()))
      let bytes = section.encoded()
      #expect(bytes.count == StreamFormat.headerByteCount)
      #expect(
        try StreamSection.decode(bytes, expecting: section.sequence, offset: 0) == section,
        "\(TestSeed.reproduce(seed, filter: "StreamCodingTests"))")
    }
  }

  @Test func `checksums are those of the bit-by-bit model`() throws {
    // The check value of RFC 3720, and a header's own checksum as the model gives it.
    #expect(StreamBytes.checksum(Array("123456789".utf8)) == 0xe306_9283)
    let bytes = StreamSection(.pages, sequence: 3, argument: 0x1234_5678_9abc, count: 7).encoded()
    let sum = StreamBytes.checksum(Array(bytes[0..<36]))
    #expect(Array(bytes[36...]) == (0..<4).map { UInt8(truncatingIfNeeded: sum >> UInt32(8 * $0)) })
  }

  @Test func `payloads of every section carry the model's checksum`() throws {
    for section in try RecordedStream(StreamScenario.bytes()).sections {
      #expect(section.header.payloadChecksum == StreamBytes.checksum(section.payload))
      #expect(section.header.payloadByteCount == section.payload.count)
    }
  }

  @Test func `the layout of a stream's start and first section is the documented one`() throws {
    let bytes = try StreamScenario.bytes()
    #expect(Array(bytes[0..<8]) == Array("smudge\r\n".utf8))
    #expect(Array(bytes[8..<12]) == [2, 0, 0, 0])
    // hello, no flags, sequence 0.
    #expect(Array(bytes[16..<20]) == [1, 0, 0, 0])
    #expect(Array(bytes[24..<32]) == [UInt8](repeating: 0, count: 8))
    // Page size and no features: one-way.
    #expect(Array(bytes[56..<64]) == [0, 16, 0, 0, 0, 0, 0, 0])
  }

  @Test func `runs of zero pages have no content and content pages share sections`() throws {
    let world = FrontEndWorld(seed: 72, pageCount: 64)
    world.writesPerEvent = 0
    world.policy.harvestPageCountMax = 64
    world.policy.notConverging = .stopAnyway(afterRounds: 1)
    for device in world.sourceDevices { device.lastDMA = nil }
    for page in 0..<64 { world.sourceMemory.fill(page: page, with: page < 40 ? 0 : 5) }
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    _ = try world.source.run(over: link.source)
    let sections = try RecordedStream(link.toDestination).sections.map(\.header)
    let pages = sections.filter { $0.kind == .pages || $0.kind == .zeroPages }
    let first = world.sourceMemory.first.rawValue
    #expect(pages.map(\.kind) == [.zeroPages, .pages])
    #expect(pages.map(\.argument) == [first, first + 40 * 4096])
    #expect(pages.map(\.count) == [40, 24])
    #expect(pages.map(\.payloadByteCount) == [0, 24 * 4096])
  }

  @Test func `signs of life at every moment of a migration change nothing of what arrives`() {
    let world = FrontEndWorld(seed: 73, pageCount: 64)
    let sign = world.source.signOfLife
    world.source.token = 0x1234_5678_9abc_def0
    // Before there is a migration, while there is one, and after it.
    sign.give()
    world.onEvent = { _ in sign.give() }
    let result = world.migrate()
    #expect(result.source == nil && result.destination == nil)
    #expect(world.differences == [])
    #expect(world.destination.report.token == 0x1234_5678_9abc_def0)
    let sent = world.source.report.streamBytes
    sign.give()
    #expect(world.source.report.streamBytes == sent)
  }

  @Test func `a sign of life is a section of its own number, and only where there is room`() throws
  {
    let world = FrontEndWorld(seed: 74, pageCount: 4)
    world.writesPerEvent = 0
    world.policy.notConverging = .stopAnyway(afterRounds: 1)
    let sign = world.source.signOfLife
    world.onEvent = { _ in sign.give() }
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    _ = try world.source.run(over: link.source)
    // Taking it apart checks that the numbers have no gap.
    let kinds = try RecordedStream(link.toDestination).sections.map(\.header.kind)
    #expect(kinds.filter { $0 == .alive }.count > 3)
    #expect(kinds.first == .hello && kinds.last == .complete)
  }

  @Test func `the check of a destination finds a byte outside RAM and a guest that runs`() throws {
    let outcome = StreamScenario.load(Array("no stream at all".utf8))
    #expect(outcome.isSound)
    outcome.world.destinationMachine.isRunning = true
    #expect(!outcome.isSound)
    outcome.world.destinationMachine.isRunning = false
    outcome.world.destinationMemory.damageCanary()
    #expect(!outcome.isSound)
  }
}
