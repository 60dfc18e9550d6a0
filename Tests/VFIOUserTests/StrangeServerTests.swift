import Addressing
import DMAContainer
import DeviceMigration
import Locking
import TestSupport
import Testing
import VFIOUser

/// A client against servers that answer oddly, wrongly, late or not at all.
@Suite struct StrangeServerTests {
  static let world = ContainerConformance.range(0x100, 8)

  /// A container with one mapping of 8 pages, its log started.
  static func started(
    _ server: ScriptedServer, _ options: VFIOUserClientOptions = .init()
  ) throws -> (VFIOUserClient, ContainerDriver) {
    let client = try VFIOUserClient(socket: server.theirs, name: "odd", options: options)
    let ram = TestRAM()
    let container = try VFIOUserContainer(
      name: "odd", client: client, files: [ram.file], memory: ram)
    let driver = ContainerDriver(container)
    try driver.start(logging: [])
    try driver.map(world, to: TestRAM.gpaFirst)
    return (client, driver)
  }

  @Test func `a server that answers as asked is believed`() throws {
    let server = try ScriptedServer { message, _ in ScriptedServer.plain(message) }
    defer { server.close() }
    let (_, driver) = try Self.started(server)
    #expect(try Set(driver.sync().keys) == [0x100])
    #expect(try Set(driver.unmap(Self.world).dirty.keys) == [0x100])
  }

  @Test func `an unmap whose answer has no bitmap makes all of it dirty`() throws {
    for answer in [24, 40] {
      let server = try ScriptedServer { message, _ in
        message.header.command == 3
          ? .payload(Array(message.payload.prefix(answer))) : ScriptedServer.plain(message)
      }
      defer { server.close() }
      let (_, driver) = try Self.started(server)
      #expect(try Set(driver.unmap(Self.world).dirty.keys) == Set(0x100..<0x108))
      #expect(server.commands.last == 3)
    }
  }

  @Test func `an unmap that is refused its bitmap is made without, and makes all of it dirty`()
    throws
  {
    let server = try ScriptedServer { message, _ in
      message.header.command == 3 && message.payload.count >= 40
        ? .errno(22) : ScriptedServer.plain(message)
    }
    defer { server.close() }
    let (_, driver) = try Self.started(server)
    let (bytes, dirty) = try driver.unmap(Self.world)
    #expect(bytes == 8 << 12 && Set(dirty.keys) == Set(0x100..<0x108))
    #expect(server.commands.suffix(2) == [3, 3])
  }

  @Test func `a bitmap that is short is no bitmap`() throws {
    let server = try ScriptedServer { message, _ in
      message.header.command == 3 && message.payload.count >= 40
        ? .payload(message.payload + [0, 0]) : ScriptedServer.plain(message)
    }
    defer { server.close() }
    let (_, driver) = try Self.started(server)
    #expect(try Set(driver.unmap(Self.world).dirty.keys) == Set(0x100..<0x108))
  }

  @Test func `a report that succeeds with nothing is an error, and the connection stays up`() throws
  {
    // Nothing, the envelope, the question again, and a part of the bitmap.
    for count in [0, 8, 32, 36] {
      let isShort = Mutex(true)
      let server = try ScriptedServer { message, _ in
        let isReport = message.header.command == 16 && message.payload[4] == 8
        guard isReport, message.payload.count > 8, isShort.withLock({ $0 }) else {
          return ScriptedServer.plain(message)
        }
        return .payload(Array((message.payload + [1, 0, 0, 0]).prefix(count)))
      }
      defer { server.close() }
      let (client, driver) = try Self.started(server)
      #expect(throws: ContainerError.self, "\(count) bytes") { try driver.sync() }
      #expect(client.end == nil)
      isShort.withLock { $0 = false }
      #expect(try Set(driver.sync().keys) == [0x100])
    }
  }

  @Test func `a server that logs in other pages than asked for is stopped again`() throws {
    let server = try ScriptedServer { message, _ in
      guard message.header.command == 16, message.payload[4] == 6, message.payload.count > 8 else {
        return ScriptedServer.plain(message)
      }
      var payload = message.payload
      payload[9] = 0x20
      return .payload(payload)
    }
    defer { server.close() }
    #expect(throws: ContainerError.self) { try Self.started(server) }
    // A start and a stop.
    #expect(server.commands.suffix(2) == [16, 16])
  }

  @Test func `state comes from padded answers, and a short one is not its end`() throws {
    let pieces = Mutex<[[UInt8]]>([[1, 2, 3], [4], [5, 6]])
    let server = try ScriptedServer { message, _ in
      guard message.header.command == 17 else {
        guard message.header.command == 16, message.payload[4] < 3 else {
          return ScriptedServer.plain(message)
        }
        let isFeatures = message.payload[4] == 1
        guard message.payload[6] == 1 else { return .payload(message.payload) }
        return .payload(
          Array(message.payload.prefix(8)) + [isFeatures ? 1 : 2, 0, 0, 0, 0, 0, 0, 0])
      }
      let piece = pieces.withLock { $0.isEmpty ? [] : $0.removeFirst() }
      let asked = Int(message.payload[4]) | Int(message.payload[5]) << 8
      return .payload(
        [UInt8(8 + piece.count), 0, 0, 0, UInt8(piece.count), 0, 0, 0] + piece
          + [UInt8](repeating: 0xee, count: asked - piece.count))
    }
    defer { server.close() }
    let client = try VFIOUserClient(socket: server.theirs, name: "odd")
    let device = client.migratable("odd")
    try device.beginPrecopy()
    try device.beginStopCopy()
    var all: [UInt8] = []
    var chunk: [UInt8] = []
    while try device.nextChunk(into: &chunk, byteCountMax: 1000) == .chunk { all += chunk }
    #expect(all == [1, 2, 3, 4, 5, 6])
    try device.finishSaving()
  }

  // MARK: what ends a connection

  @Test func `a silent server has lost its connection once the time is over`() throws {
    let server = try ScriptedServer { message, _ in
      message.header.command == 4 ? .silence : ScriptedServer.plain(message)
    }
    defer { server.close() }
    let client = try VFIOUserClient(
      socket: server.theirs, name: "odd", options: .init(answerMilliseconds: 500))
    for reason in [.timedOut, .connectionLost, .connectionLost] as [VFIOUserError.Reason] {
      do throws(VFIOUserError) {
        _ = try client.deviceInformation()
        Issue.record("it answered")
      } catch {
        #expect(error.reason == reason && error.endsConnection, "\(error)")
      }
    }
    #expect(client.end?.reason == .timedOut)
  }

  @Test func `a server that trickles an answer has the time of one answer`() throws {
    let server = try ScriptedServer { message, _ in
      message.header.command == 4 ? .bytes([1, 0, 4, 0, 32]) : ScriptedServer.plain(message)
    }
    defer { server.close() }
    let client = try VFIOUserClient(
      socket: server.theirs, name: "odd", options: .init(answerMilliseconds: 500))
    #expect(throws: VFIOUserError.self) { try client.deviceInformation() }
    #expect(client.end?.reason == .timedOut)
  }

  @Test func `an answer to another message, and a frame that is none, close the connection`() throws
  {
    for bytes in [
      // Another id, another command, a wrong type, a wrong size.
      [99, 0, 4, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 5, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 4, 0, 16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 4, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 4, 0, 0, 0, 0, 0x7f, 1, 0, 0, 0, 0, 0, 0, 0],
    ] as [[UInt8]] {
      let server = try ScriptedServer { message, _ in
        message.header.command == 4 ? .bytes(bytes) : ScriptedServer.plain(message)
      }
      defer { server.close() }
      let client = try VFIOUserClient(socket: server.theirs, name: "odd")
      #expect(throws: VFIOUserError.self) { try client.deviceInformation() }
      #expect(client.end?.reason == .protocolBroken, "\(bytes)")
    }
  }

  @Test func `a VERSION that cannot be is refused, and no twin socket without a descriptor`() throws
  {
    let twin = VersionCapabilities(
      descriptorCountMax: 8, twinSocket: .init(isSupported: true, descriptorIndex: 1))
    let answers: [ScriptedServer.Answer] = [
      .payload(VersionMessage(major: 1, minor: 0, capabilities: .init()).encoded()),
      .payload(VersionMessage(minor: 3, capabilities: .init()).encoded()),
      .payload([0, 0]), .payload([0, 0, 0, 0] + Array("nonsense".utf8) + [0]),
      .errno(22), .end,
      .withDescriptors(
        VersionMessage(minor: 0, capabilities: twin).encoded(), [TestRAM().descriptor]),
    ]
    for answer in answers {
      let server = try ScriptedServer { _, _ in answer }
      defer { server.close() }
      #expect(throws: VFIOUserError.self) {
        try VFIOUserClient(
          socket: server.theirs, name: "odd", options: .init(wantsTwinSocket: true))
      }
    }
  }

  /// Everything a client of a container does, against a server that goes after so many answers.
  @Test func `a server that dies at any step ends each call with an error, nothing stays open`()
    throws
  {
    func session(_ server: ScriptedServer, _ probe: DescriptorProbe) throws {
      let client = try VFIOUserClient(socket: server.theirs, name: "odd")
      let ram = TestRAM()
      let file = VFIOUserMemoryFile(gpa: ram.gpa, descriptor: probe.take())
      let container = try VFIOUserContainer(
        name: "odd", client: client, files: [file], memory: ram)
      let driver = ContainerDriver(container)
      try driver.start(logging: [])
      try driver.map(Self.world, to: TestRAM.gpaFirst)
      _ = try driver.sync()
      _ = try client.feature(probing: .migration)
      _ = try driver.unmap(Self.world)
      try driver.stop()
    }
    let whole = try ScriptedServer { message, _ in ScriptedServer.plain(message) }
    try session(whole, DescriptorProbe())
    let count = whole.commands.count
    whole.close()
    #expect(count == 10)
    for last in 0..<count {
      let left = Mutex(last)
      let server = try ScriptedServer { message, _ in
        let isLeft = left.withLock { left in
          left -= 1
          return left >= 0
        }
        return isLeft ? ScriptedServer.plain(message) : .end
      }
      let probe = DescriptorProbe()
      #expect(throws: (any Error).self, "after \(last)") { try session(server, probe) }
      server.close()
      // Taken only once there was a container.
      if last > 0 { #expect(probe.isReleased(), "after \(last)") }
    }
  }

  @Test func `a map the server refuses is not mapped, nor are its pieces`() throws {
    let left = Mutex(2)
    let small = VersionCapabilities(descriptorCountMax: 8, dataByteCountMax: 48)
    let server = try ScriptedServer { message, _ in
      guard message.header.command == 2 else {
        return ScriptedServer.plain(message, capabilities: small)
      }
      return left.withLock { left in
        left -= 1
        return left >= 0 ? .payload([]) : .errno(12)
      }
    }
    defer { server.close() }
    let client = try VFIOUserClient(socket: server.theirs, name: "odd")
    let ram = TestRAM()
    let container = try VFIOUserContainer(
      name: "odd", client: client, files: [ram.file], memory: ram)
    let request = MapRequest(
      iova: ContainerConformance.range(0, 200), gpaFirst: TestRAM.gpaFirst, hvaFirst: nil,
      permissions: .readWrite)
    do throws(ContainerError) {
      try container.map(request)
      Issue.record("it was mapped")
    } catch {
      #expect(error.errno == 12)
    }
    // Two pieces were, and are unmapped again.
    #expect(server.commands.suffix(5) == [2, 2, 2, 3, 3])
    left.withLock { $0 = 100 }
    try container.map(request)
  }
}

extension VFIOUserClient {
  func feature(probing feature: VFIOUserFeature) throws(VFIOUserError) -> Bool {
    try hasFeature(feature, get: true)
  }
}
