import Addressing
import Locking
import Simulation
import TestSupport
import Testing
import VFIOUser

/// The connection: pieces, descriptors, order, two sockets, and peers that end or say nothing.
@Suite struct ConnectionTests {
  typealias Answers = ServerAnswerTests

  @Test func `messages in pieces of one byte are whole, with their descriptors`() throws {
    let raw = try RawClient()
    let ram = TestRAM()
    let request = Answers.map(Answers.page(16, 4))
    raw.peer.sendSlowly(
      RawPeer.bytes(request.command.rawValue, request.encoded(), id: 5), [ram.descriptor])
    let answer = raw.peer.receive()
    #expect(answer?.errno == nil && answer?.header.id == 5)
    #expect(raw.device.write([1, 2], at: IOVA(0x1_0010)) == 0x10)
    // Many in one piece.
    var all: [UInt8] = []
    for id in 0..<50 as Range<UInt16> {
      let read = VFIOUserRequest.regionRead(RegionAccess(region: 0, offset: 0, byteCount: 4))
      all += RawPeer.bytes(read.command.rawValue, read.encoded(), id: id)
    }
    raw.peer.send(all)
    #expect((0..<50).map { _ in raw.peer.receive()?.header.id } == Array(0..<50))
    raw.close()
    #expect(raw.device.regionCount == 0)
    #expect(raw.device.leftCount == 1)
  }

  @Test func `a command without an answer is carried out before a later one is answered`() throws {
    let raw = try RawClient()
    defer { raw.close() }
    for number in 0..<200 as Range<UInt64> {
      let map = Answers.map(Answers.page(16 + number))
      raw.peer.send(map, id: UInt16(number), awaitsReply: false)
    }
    // A wrong one is not answered either.
    raw.peer.send(Answers.map(Answers.page(16)), id: 900, awaitsReply: false)
    raw.peer.send(RawPeer.bytes(99, [], id: 901, awaitsReply: false))
    let answer = raw.ask(.deviceInformation)
    #expect(answer?.header.command == 4)
    #expect(raw.device.regionCount == 199 + 1)
  }

  // MARK: VERSION

  @Test func `a client gets its own minor, or the server's`() throws {
    for (asked, given) in [(0, 0), (1, 1), (2, 2), (7, 2)] as [(UInt16, UInt16)] {
      let raw = try RawClient(negotiates: false)
      let answer = raw.ask(.version(VersionMessage(minor: asked, capabilities: .init())))
      let version = try VersionMessage(decoding: try #require(answer).payload)
      #expect(version.minor == given)
      #expect(version.capabilities.descriptorCountMax == 8)
      #expect(version.capabilities.twinSocket == nil)
      raw.close()
    }
  }

  @Test func `what is no VERSION is answered EINVAL, and the connection closed`() throws {
    let major = VersionMessage(major: 1, minor: 0, capabilities: .init()).encoded()
    for bytes in [
      RawPeer.bytes(4, [16, 0, 0, 0] + [UInt8](repeating: 0, count: 12)),
      RawPeer.bytes(1, major), RawPeer.bytes(1, []), RawPeer.bytes(1, [0, 0, 1, 0, 0x7b]),
      RawPeer.bytes(1, [0, 0, 1, 0] + Array(#"{"capabilities":1}"#.utf8) + [0]),
    ] {
      let raw = try RawClient(negotiates: false)
      raw.peer.send(bytes)
      #expect(raw.peer.receive()?.errno == 22)
      #expect(raw.peer.isAtEnd)
      raw.close()
    }
    let raw = try RawClient(negotiates: false)
    let probe = DescriptorProbe()
    raw.peer.send(
      .version(VersionMessage(minor: 0, capabilities: .init())), id: 1, awaitsReply: true,
      [probe.take()])
    #expect(raw.peer.receive()?.errno == 22)
    #expect(raw.peer.isAtEnd)
    raw.close()
    #expect(probe.isReleased())
  }

  @Test func `a broken frame closes the connection, whatever it was in the middle of`() throws {
    for bytes in [
      [0, 0, 4, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 4, 0, 32, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
      // An answer to nothing.
      [0, 0, 4, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ] as [[UInt8]] {
      let raw = try RawClient()
      raw.peer.send(bytes)
      #expect(raw.peer.isAtEnd)
      raw.close()
      #expect(raw.device.leftCount == 1)
    }
  }

  // MARK: descriptors

  @Test func `descriptors past the limit are closed, and the message is still a message`() throws {
    let raw = try RawClient()
    let probe = DescriptorProbe()
    let extra = probe.take()
    let ram = TestRAM()
    // 8 are taken; VERSION said so.
    raw.peer.send(
      Answers.map(Answers.page(16)), id: 1, awaitsReply: true,
      [ram.descriptor] + (0..<11).map { _ in extra })
    #expect(raw.peer.receive()?.errno == 22)
    #expect(raw.ask(.deviceInformation)?.errno == nil)
    raw.close()
    withExtendedLifetime(extra) {}
  }

  @Test func `whatever ends a connection, no descriptor stays behind`() throws {
    for step in 0..<5 {
      let raw = try RawClient()
      let probe = DescriptorProbe()
      do {
        let descriptor = probe.take()
        let map = Answers.map(Answers.page(16))
        let bytes = RawPeer.bytes(2, map.encoded())
        switch step {
        // Mapped, and the client goes.
        case 0: #expect(raw.ask(map, [descriptor])?.errno == nil)
        // In the middle of a message.
        case 1: raw.peer.send(Array(bytes.prefix(3)), [descriptor])
        case 2: raw.peer.send(Array(bytes.prefix(30)), [descriptor])
        // With a command that takes none.
        case 3: #expect(raw.ask(.deviceInformation, [descriptor])?.errno == nil)
        // Interrupts.
        default:
          let irqs = SetIRQsMessage(
            index: 2, count: 1, action: .trigger, values: .eventDescriptors)
          #expect(raw.ask(.setIRQs(irqs), [descriptor])?.errno == nil)
          #expect(raw.device.eventDescriptorCount == 1)
        }
      }
      raw.close()
      #expect(probe.isReleased(), "step \(step)")
      #expect(raw.device.regionCount == 0 && raw.device.eventDescriptorCount == 0)
    }
  }

  @Test func `a client sends no more descriptors than the server takes`() throws {
    var options = TestPair.Options()
    options.server.limits = MessageLimits(descriptorCountMax: 3)
    let pair = try TestPair(options)
    defer { pair.close() }
    let ram = TestRAM()
    let message = SetIRQsMessage(
      index: 2, start: 1, count: 8, action: .trigger, values: .eventDescriptors)
    let descriptors = (0..<8).map { _ in ram.descriptor }
    // In one message it is refused here, in several it goes.
    #expect(throws: VFIOUserError.self) {
      try pair.client.request(.setIRQs(message), descriptors: descriptors)
    }
    #expect(pair.device.interrupts.isEmpty)
    try pair.client.setIRQs(message, descriptors: descriptors)
    #expect(pair.device.interrupts.map(\.start) == [1, 4, 7])
    #expect(pair.device.interrupts.map(\.count) == [3, 3, 2])
    #expect(pair.device.eventDescriptorCount == 8)
  }

  @Test func `a server gives no descriptor to a client that takes none`() throws {
    var options = TestPair.Options()
    options.client.limits = MessageLimits(descriptorCountMax: 0)
    let pair = try TestPair(options)
    defer { pair.close() }
    pair.device.giveRegion(TestRAM().descriptor)
    let (information, descriptor) = try pair.client.regionInformation(1)
    #expect(descriptor == nil && !information.access.contains(.map) && information.areas.isEmpty)
  }

  @Test func `a region's areas and descriptor arrive`() throws {
    let pair = try TestPair()
    defer { pair.close() }
    let ram = TestRAM()
    pair.device.giveRegion(ram.descriptor)
    let (information, descriptor) = try pair.client.regionInformation(1)
    #expect(information.areas.map(\.offset) == [0, 0x2000])
    #expect(information.mapOffset == 0x1000 && information.byteCount == 0x3000)
    let given = try #require(descriptor)
    #expect(TestFile.write([5], to: given, 0x20) && TestFile.read(ram.descriptor, 0x20, 1) == [5])
    #expect(try pair.client.deviceInformation().regionCount == 9)
    #expect(try pair.client.irqInformation(2).count == 32)
    try pair.client.writeRegion(0, offset: 8, [1, 2, 3])
    try pair.client.writeRegion(0, offset: 9, [9], awaitsReply: false)
    #expect(
      try pair.client.readRegion(RegionAccess(region: 0, offset: 8, byteCount: 3)) == [1, 9, 3])
    try pair.client.reset()
    #expect(pair.device.resetCount == 1)
  }

  @Test func `data past the smaller of both limits is refused here`() throws {
    var options = TestPair.Options()
    options.server.limits = MessageLimits(dataByteCountMax: 32)
    let pair = try TestPair(options)
    defer { pair.close() }
    do throws(VFIOUserError) {
      try pair.client.writeRegion(0, offset: 0, [UInt8](repeating: 1, count: 33))
      Issue.record("33 bytes went")
    } catch {
      #expect(error.reason == .limit && !error.endsConnection)
    }
    try pair.client.writeRegion(0, offset: 0, [UInt8](repeating: 1, count: 32))
  }
}
