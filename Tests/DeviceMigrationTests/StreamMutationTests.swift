import Addressing
@testable import DeviceMigration
import GuestDirtyLog
import TestSupport
import Testing

@Suite struct StreamMutationTests {
  private func recorded() throws -> RecordedStream {
    try RecordedStream(StreamScenario.bytes())
  }

  /// The error of the recorded stream after `change`.
  private func reason(
    renumbering: Bool = true, _ change: (inout RecordedStream) throws -> Void
  ) throws -> StreamError.Reason? {
    var stream = try recorded()
    try change(&stream)
    let outcome = StreamScenario.load(stream.encoded(renumbering: renumbering))
    #expect(outcome.isSound)
    return outcome.streamError
  }

  private func pageBytes(of bytes: [UInt8]) throws -> Set<Int> {
    var found = Set<Int>()
    var offset = StreamFormat.startByteCount
    for section in try RecordedStream(bytes).sections {
      offset += StreamFormat.headerByteCount
      if section.header.kind == .pages {
        found.formUnion(offset..<(offset + section.payload.count))
      }
      offset += section.payload.count
    }
    return found
  }

  @Test func `the recorded stream loads, and taking it apart changes nothing`() throws {
    let bytes = try StreamScenario.bytes()
    #expect(try RecordedStream(bytes).encoded(renumbering: false) == bytes)
    let outcome = StreamScenario.load(bytes)
    #expect(outcome.error == nil && outcome.isSound)
  }

  @Test func `a stream that is cut anywhere is truncated`() throws {
    let bytes = try StreamScenario.bytes(deviceCount: 1)
    let pages = try pageBytes(of: bytes)
    for length in bytes.indices where !pages.contains(length) || length % 61 == 0 {
      let outcome = StreamScenario.load(Array(bytes[0..<length]), deviceCount: 1)
      #expect(outcome.streamError == .truncated, "cut at \(length)")
      #expect(outcome.isSound, "cut at \(length)")
    }
  }

  @Test func `a flipped bit is found wherever it is`() throws {
    let bytes = try StreamScenario.bytes(deviceCount: 1)
    let pages = try pageBytes(of: bytes)
    // Every bit of everything but page content; there, one bit in some bytes.
    for index in bytes.indices where !pages.contains(index) || index % 97 == 0 {
      for bit in 0..<8 where bit == index % 8 || !pages.contains(index) {
        var mutated = bytes
        mutated[index] ^= 1 << UInt8(bit)
        let outcome = StreamScenario.load(mutated, deviceCount: 1)
        #expect(outcome.error != nil && outcome.isSound, "bit \(bit) of byte \(index)")
        switch outcome.streamError {
        case .notAStream?: #expect(index < 8)
        case .damaged?: #expect(index >= 8)
        default: Issue.record("bit \(bit) of byte \(index): \(String(describing: outcome.error))")
        }
      }
    }
  }

  @Test func `sections that are swapped, lost or doubled are out of order`() throws {
    let count = try recorded().sections.count
    for index in 1..<(count - 1) {
      let swapped = try reason(renumbering: false) { $0.sections.swapAt(index, index + 1) }
      let sequence = UInt64(index)
      #expect(swapped == .outOfOrder(expected: sequence, found: sequence + 1))
      let lost = try reason(renumbering: false) { $0.sections.remove(at: index) }
      #expect(lost == .outOfOrder(expected: sequence, found: sequence + 1))
      let doubled = try reason(renumbering: false) {
        $0.sections.insert($0.sections[index], at: index)
      }
      #expect(doubled == .outOfOrder(expected: sequence + 1, found: sequence))
    }
  }

  @Test func `an unknown version and foreign bytes are named`() throws {
    var bytes = try StreamScenario.bytes()
    bytes[8] = 3
    let sum = StreamBytes.checksum(Array(bytes[0..<12]))
    for byte in 0..<4 { bytes[12 + byte] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * byte)) }
    #expect(StreamScenario.load(bytes).streamError == .unknownVersion(3))
    #expect(
      StreamScenario.load(Array("GET / HTTP/1.1\r\n\r\n".utf8)).streamError == .notAStream)
  }

  @Test func `an unknown kind and an oversized section are named`() throws {
    let stream = try recorded()
    func withHeader(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
      var header = stream.sections[1].header.encoded()
      change(&header)
      let sum = StreamBytes.checksum(Array(header[0..<36]))
      for byte in 0..<4 { header[36 + byte] = UInt8(truncatingIfNeeded: sum >> UInt32(8 * byte)) }
      var first = stream
      first.sections = [stream.sections[0]]
      return first.encoded() + header
    }
    #expect(StreamScenario.load(withHeader { $0[0] = 99 }).streamError == .unknownKind(99))
    let size = UInt32(Limits.streamSectionByteCountMax + 1)
    let oversized = withHeader { header in
      for byte in 0..<4 { header[4 + byte] = UInt8(truncatingIfNeeded: size >> UInt32(8 * byte)) }
    }
    #expect(
      StreamScenario.load(oversized).streamError
        == .oversized(byteCount: UInt64(size), limit: UInt64(Limits.streamSectionByteCountMax)))
    guard case .malformed? = StreamScenario.load(withHeader { $0[2] = 1 }).streamError else {
      Issue.record("an unknown flag was taken")
      return
    }
  }

  @Test func `pages outside RAM are named and nothing is touched`() throws {
    let ram = ArrayMemory(pageCount: 4).region.gpa
    for kind in [StreamSectionKind.pages, .zeroPages] {
      for gpa in [
        0, ram.first.rawValue - 4096, ram.last.rawValue + 1, UInt64.max - 4095,
        UInt64.max & ~0xfff,
      ] {
        let found = try reason { stream in
          stream.sections[stream.index(of: kind)!].header.argument = gpa
        }
        guard case .pageOutsideRAM(GPA(gpa), _)? = found else {
          Issue.record("\(kind) at \(gpa): \(String(describing: found))")
          continue
        }
      }
    }
    let many = try reason { $0.sections[$0.index(of: .zeroPages)!].header.count = UInt32.max }
    #expect(many == .pageOutsideRAM(ram.first, pageCount: UInt64(UInt32.max)))
    let unaligned = try reason { $0.sections[$0.index(of: .pages)!].header.argument += 1 }
    guard case .malformed(.pages, _)? = unaligned else {
      Issue.record("\(String(describing: unaligned))")
      return
    }
  }

  @Test func `a page that the memory has and RAM has not is named and not touched`() throws {
    var stream = try recorded()
    let low = ArrayMemory(pageCount: 2).region
    var hello = try #require(StreamHello(stream.sections[0].payload))
    hello.regions = [StreamHello.Region(name: low.name, gpa: low.gpa)]
    stream.setPayload(hello.encoded(), at: 0)
    let world = FrontEndWorld(seed: 41, pageCount: 4)
    world.destinationMemory.fill(page: 3, with: 77)
    let before = ArrayMemory(pageCount: 4)
    before.fill(page: 3, with: 77)
    let destination = MigrationDestination(
      machine: world.destinationMachine, memory: world.destinationMemory, regions: [low],
      devices: world.destinationDevices)
    let link = MemoryLink(plan: world.plan, isBidirectional: false)
    link.toDestination = stream.encoded()
    let error = #expect(throws: MigrationError.self) {
      try destination.receive(from: link.destination)
    }
    guard case .stream(let reason)? = error?.cause, case .pageOutsideRAM = reason.reason else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(!before.differingPages(world.destinationMemory).contains(3))
  }

  @Test func `device sections that do not fit are named`() throws {
    #expect(
      try reason { $0.sections[$0.index(of: .deviceChunk)!].header.count = 4 }
        == .noSuchDevice(index: 4, deviceCount: 4))
    #expect(
      try reason { $0.sections[$0.index(of: .deviceChunk)!].header.argument = 7 }
        == .chunkOutOfOrder(device: "v1", expected: 0, found: 7))
    #expect(
      try reason { stream in
        let end = stream.index(of: .deviceEnd)!
        stream.sections.insert(stream.sections[end], at: end)
      } == .deviceEnded("v1"))
    #expect(
      try reason { stream in
        let end = stream.index(of: .deviceEnd)!
        stream.sections.insert(stream.sections[stream.index(of: .deviceChunk)!], at: end + 1)
      } == .deviceEnded("v1"))
    let lost = try reason { $0.sections[$0.index(of: .deviceEnd)!].header.argument = 0 }
    guard case .totalsDiffer? = lost else {
      Issue.record("lost chunks were not missed")
      return
    }
  }

  @Test func `totals that differ and anything after complete are refused`() throws {
    guard
      case .totalsDiffer? = try reason({ $0.sections.remove(at: $0.index(of: .zeroPages)!) })
    else {
      Issue.record("lost pages were not missed")
      return
    }
    guard
      case .totalsDiffer? = try reason({ $0.sections.remove(at: $0.index(of: .machineState)!) })
    else {
      Issue.record("a lost machine state was not missed")
      return
    }
    let claimed = try reason { stream in
      let complete = stream.index(of: .complete)!
      var totals = stream.sections[complete].payload
      totals[16] += 1
      stream.setPayload(totals, at: complete)
    }
    guard case .totalsDiffer? = claimed else {
      Issue.record("a chunk that never came was not missed: \(String(describing: claimed))")
      return
    }
    let bytes = try StreamScenario.bytes()
    let more = StreamScenario.load(bytes + [0])
    #expect(more.error != nil && more.isSound)
  }

  @Test func `a stream that leaves out a page, a region or a configuration is refused by name`()
    throws
  {
    func sum(_ stream: RecordedStream) -> [UInt8] {
      var pages: UInt64 = 0
      var zeroPages: UInt64 = 0
      for section in stream.sections.map(\.header) {
        if section.kind == .pages { pages += UInt64(section.count) }
        if section.kind == .zeroPages { zeroPages += UInt64(section.count) }
      }
      return [pages, zeroPages].flatMap { value in
        (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
      }
    }
    /// With totals that agree with what is left: a source that believes it has sent everything.
    func found(_ change: (inout RecordedStream) -> Void) throws -> String {
      let reason = try reason { stream in
        change(&stream)
        let complete = stream.index(of: .complete)!
        let chunks = Array(stream.sections[complete].payload.dropFirst(16))
        stream.setPayload(sum(stream) + chunks, at: complete)
      }
      guard case .totalsDiffer(let text)? = reason else { return "\(String(describing: reason))" }
      return text
    }
    #expect(try found { $0.sections.removeAll { $0.header.kind == .zeroPages } }.contains("pages"))
    #expect(
      try found {
        $0.sections.removeAll { $0.header.kind == .pages || $0.header.kind == .zeroPages }
      }.contains("4 pages of RAM"))
    let bare = try found { $0.sections.removeAll { $0.header.kind == .deviceConfiguration } }
    #expect(bare.contains("configuration of device") && bare.contains("never came"), "\(bare)")
    let last = try found {
      $0.sections.remove(
        at: $0.sections.lastIndex {
          $0.header.kind == .deviceConfiguration
        }!)
    }
    #expect(last.contains("configuration of device"), "\(last)")
    // And the same surgery without a loss is taken.
    #expect(try found { _ in } == "nil")
  }

  @Test func `signs of life may stand between any two sections before complete, and nowhere else`()
    throws
  {
    let count = try recorded().sections.count
    for index in 1..<(count - 1) {
      #expect(
        try reason { $0.sections.insert((StreamSection(.alive), []), at: index) } == nil,
        "before section \(index)")
    }
    let late = try reason { $0.sections.append((StreamSection(.alive), [])) }
    #expect(late != nil)
    let early = try reason { $0.sections.insert((StreamSection(.alive), []), at: 0) }
    #expect(early != nil)
  }

  @Test func `what a peer writes reaches no terminal as it is, and not at any length`() throws {
    func refusal(_ change: (inout StreamHello) -> Void) throws -> String {
      var stream = try recorded()
      var hello = try #require(StreamHello(stream.sections[0].payload))
      change(&hello)
      stream.setPayload(hello.encoded(), at: 0)
      let outcome = StreamScenario.load(stream.encoded())
      return outcome.error.map { "\($0)" } ?? ""
    }
    let ram = ArrayMemory(pageCount: 4).region.gpa
    let evil = "\u{1b}[2J\u{9b}31mverdict: equal\r\n\u{202e}\u{7f}\u{0}"
    let text = try refusal { $0.regions = [StreamHello.Region(name: evil, gpa: ram)] }
    #expect(text.contains("verdict: equal") && text.contains("\\u{1b}[2J"), "\(text)")
    #expect(text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control })
    #expect(!text.unicodeScalars.contains("\u{202e}"))
    #expect(try refusal { $0.devices.append($0.devices[0]) }.contains("a device is there twice"))
    #expect(try refusal { $0.regions.append($0.regions[0]) }.contains("RAM region is there twice"))
    let long = try refusal { hello in
      hello.regions = (0..<4000).map { index in
        StreamHello.Region(
          name: String(repeating: "x", count: 4000) + "\(index)",
          gpa: AddressRange(first: GPA(UInt64(index) << 12), last: GPA(UInt64(index) << 12 + 4095)))
      }
    }
    #expect(long.utf8.count < 2000, "\(long.utf8.count) bytes")
    #expect(long.contains("more"), "\(long)")
  }

  @Test func `sections changed at random, with checksums that hold, never trap`() throws {
    let seed = TestSeed.seed(default: 51)
    var random = SeededGenerator(seed: seed)
    let original = try recorded()
    var refused = 0
    for _ in 0..<600 {
      var stream = original
      for _ in 0...random.below(2) { Self.mutate(&stream, &random) }
      let outcome = StreamScenario.load(stream.encoded())
      #expect(outcome.isSound, "\(TestSeed.reproduce(seed, filter: "StreamMutationTests"))")
      if outcome.error != nil { refused += 1 }
    }
    #expect(refused > 400)
  }

  private static func mutate(_ stream: inout RecordedStream, _ random: inout SeededGenerator) {
    let index = random.below(stream.sections.count)
    let kinds = StreamSectionKind.allCases
    switch random.below(7) {
    case 0: stream.sections[index].header.kind = kinds[random.below(kinds.count)]
    case 1: stream.sections[index].header.argument = random.next() >> UInt64(random.below(64))
    case 2: stream.sections[index].header.count = UInt32(truncatingIfNeeded: random.next())
    case 3: stream.sections.remove(at: index)
    case 4: stream.sections.swapAt(index, random.below(stream.sections.count))
    case 5: stream.sections.insert(stream.sections[index], at: random.below(index + 1))
    default:
      var payload = stream.sections[index].payload
      guard !payload.isEmpty else { return }
      payload[random.below(payload.count)] = UInt8(truncatingIfNeeded: random.next())
      if random.once(in: 2) { payload.removeLast() }
      stream.setPayload(payload, at: index)
    }
    if stream.sections.isEmpty { stream.sections = [(StreamSection(.hello), [])] }
  }
}
