import Addressing
import Dispatch
import Glibc
import TestSupport
import Testing

@testable import VhostUser

/// Connections that begin and end in all ways there are.
@Suite struct ConnectionTests {
  /// The messages of a whole migration, each with its descriptors.
  private static func life(
    _ world: CompanionWorld, _ log: LogFile, _ other: Int32
  ) -> [(FrontEndMessage, [Int32])] {
    let ring = RingDescriptor(ring: 0, hasDescriptor: true)
    let number = RingNumber(ring: 0, value: 0)
    let description = LogDescription(byteCount: log.byteCount, offset: 0)
    let all = FrontEnd.features.union(.logAll)
    let plugged = world.region(1 << 33, 1 << 20, at: 12 << 20)
    return [
      (.getFeatures, []), (.getProtocolFeatures, []), (.setProtocolFeatures(.offered), []),
      (.setOwner, []), (.setRingCall(ring), [other]), (.setRingError(ring), [other]),
      (.setFeatures(FrontEnd.features), []),
      (.setMemoryTable(world.regions.map(\.0)), world.regions.map(\.1)),
      (.setRingSize(number), []), (.setRingBase(number), []), (.setRingKick(ring), [other]),
      (.setRingEnable(RingNumber(ring: 0, value: 1)), []),
      (.setLogBase(description), [log.descriptor]), (.setFeatures(all), []),
      (.addMemoryRegion(plugged.0), [plugged.1]), (.setLogBase(description), [log.descriptor]),
      (.removeMemoryRegion(plugged.0), [plugged.1]), (.setRingEnable(number), []),
      (.getRingBase(number), []), (.setLogBase(description), [log.descriptor]),
      (.setRingEnable(RingNumber(ring: 0, value: 1)), []),
      (.resetOwner, []), (.setLogDescriptor, [other]),
    ]
  }

  /// A byte short of the whole message, the whole message, and in pieces of one byte.
  private enum Way: CaseIterable { case cut, whole, pieces }

  @Test func `a front-end that dies at any message leaves nothing behind`() throws {
    let world = try CompanionWorld("dies")
    let names = (log: world.name + "-log", other: world.name + "-other")
    do {
      let log = LogFile(byteCount: 4096, name: names.log)
      let other = Descriptors.memory(names.other)
      defer { Descriptors.close(other) }
      let messages = Self.life(world, log, other)
      for count in 0...messages.count {
        for way in Way.allCases {
          let frontEnd = FrontEnd(world.path)
          for (message, descriptors) in messages[..<count] {
            frontEnd.send(message, descriptors)
          }
          if count < messages.count {
            let (message, descriptors) = messages[count]
            let bytes = message.bytes()
            switch way {
            case .whole: frontEnd.send(bytes: bytes, descriptors)
            case .cut: frontEnd.send(bytes: Array(bytes.dropLast()), descriptors)
            case .pieces:
              for index in bytes.indices {
                frontEnd.send(bytes: [bytes[index]], index == 5 ? descriptors : [])
              }
            }
          }
          shutdown(frontEnd.socket.number, Int32(SHUT_WR))
          while frontEnd.receive() != nil {}
          let reason = world.delegate.awaitDisconnection()
          let isCut = way == .cut && count < messages.count
          #expect((reason == .closedByFrontEnd) != isCut, "\(count) \(way): \(reason as Any)")
          let heard = world.delegate.take()
          #expect(heard.first == "connected" && heard.last == "disconnected")
          #expect(
            heard.filter { $0.hasPrefix("tracking") }.count % 2 == 0, "\(count): \(heard)")
          #expect(world.companion.ram.regions.isEmpty && world.companion.log.pageCount == 0)
          #expect(world.heldCount == 0)
          // One is the test's own, and the mapping of the log too.
          #expect(Descriptors.openCount(names.log) == 1 && Descriptors.openCount(names.other) == 1)
          #expect(Descriptors.mappedCount(names.log) == 1)
        }
      }
    }
    #expect(Descriptors.openCount(names.log) == 0 && Descriptors.openCount(names.other) == 0)
  }

  @Test func `the count of descriptors notices one that was kept`() throws {
    let world = try CompanionWorld("kept")
    let frontEnd = FrontEnd(world.path)
    frontEnd.realize()
    frontEnd.start(world.regions)
    let table = world.companion.ram
    #expect(world.heldCount == 2)
    shutdown(frontEnd.socket.number, Int32(SHUT_RDWR))
    #expect(world.delegate.awaitDisconnection() == .closedByFrontEnd)
    #expect(world.heldCount == 2 && table.regions.count == 2)
  }

  @Test func `a second front-end is closed at once and the first one served on`() throws {
    let world = try CompanionWorld("second")
    let first = FrontEnd(world.path)
    first.realize()
    for count in 1...3 {
      #expect(FrontEnd(world.path).isClosed())
      #expect(world.companion.status.refusedFrontEndCount == count)
    }
    first.start(world.regions)
    #expect(world.companion.status.phase == .started)
    // The next one is served as soon as the first is gone, also when it was quick.
    shutdown(first.socket.number, Int32(SHUT_RDWR))
    let next = FrontEnd(world.path)
    next.realize()
    #expect(world.delegate.awaitDisconnection() == .closedByFrontEnd)
    #expect(world.companion.status.phase == .connected)
  }

  @Test func `malformed messages of every kind end the connection by name`() throws {
    let world = try CompanionWorld("malformed")
    let ring = FrontEndMessage.setRingKick(RingDescriptor(ring: 0, hasDescriptor: true))
    let memory = world.memory
    func header(_ request: UInt32, _ flags: UInt32, _ count: UInt32) -> [UInt8] {
      MessageHeader(request: request, flags: flags, payloadByteCount: count).bytes
    }
    let cases: [([UInt8], [Int32], VhostUserError)] = [
      (header(1, 5, 0), [], .badFlags(request: 1, flags: 5)),
      (header(99, 1, 0), [memory], .unknownRequest(99)),
      (header(31, 1, 24), [], .unknownRequest(31)),
      (header(5, 1, .max), [memory], .badPayloadSize(.setMemoryTable, byteCount: .max)),
      (ring.bytes(), [], .badDescriptorCount(.setRingKick, count: 0, wanted: 1)),
      (ring.bytes(), [memory, memory], .badDescriptorCount(.setRingKick, count: 2, wanted: 1)),
      (
        FrontEndMessage.getFeatures.bytes(), [memory],
        .badDescriptorCount(.getFeatures, count: 1, wanted: 0)
      ),
      (
        FrontEndMessage.getFeatures.bytes(), [Int32](repeating: memory, count: 9),
        .tooManyDescriptors(max: 8)
      ),
      (
        FrontEndMessage.getFeatures.bytes(), [Int32](repeating: memory, count: 16),
        .tooManyDescriptors(max: 8)
      ),
      (FrontEndMessage.getQueueCount.bytes(), [], .notNegotiated(.getQueueCount)),
      (
        FrontEndMessage.setMemoryTable([world.region(0, 0, at: 0).0]).bytes(), [memory],
        .emptyRegion(gpa: GPA(0))
      ),
      (
        FrontEndMessage.setRingEnable(RingNumber(ring: 300, value: 0)).bytes(), [],
        .badField(.setRingEnable, field: "ring", value: 300)
      ),
    ]
    for (bytes, descriptors, error) in cases {
      let frontEnd = FrontEnd(world.path)
      frontEnd.send(bytes: bytes, descriptors)
      #expect(frontEnd.isClosed())
      #expect(world.delegate.awaitDisconnection() == error)
      #expect(world.heldCount == 0, "\(error)")
    }
  }

  @Test func `random bytes and changed messages end no process and keep nothing`() throws {
    let seed = TestSeed.seed(default: 0x7262)
    var random = SeededGenerator(seed: seed)
    let world = try CompanionWorld("noise")
    for _ in 0..<300 {
      let frontEnd = FrontEnd(world.path)
      for _ in 0..<(1 + random.below(6)) {
        let request = FrontEndRequest.allCases[random.below(FrontEndRequest.allCases.count)]
        let message = random.message(request)
        var bytes = message.bytes(needsReply: random.once(in: 2))
        if random.once(in: 3) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
        if random.once(in: 10) { bytes.removeLast(random.below(bytes.count)) }
        let count = random.once(in: 4) ? random.below(4) : message.descriptorCounts.upperBound
        frontEnd.send(bytes: bytes, [Int32](repeating: world.memory, count: count))
      }
      shutdown(frontEnd.socket.number, Int32(SHUT_WR))
      while frontEnd.receive() != nil {}
      #expect(
        world.delegate.awaitDisconnection() != nil,
        "\(TestSeed.reproduce(seed, filter: "ConnectionTests"))")
      #expect(world.heldCount == 0)
    }
  }

  @Test func `a front-end that reads no answers makes nobody wait`() throws {
    let world = try CompanionWorld("deaf")
    let frontEnd = FrontEnd(world.path)
    // As many questions as both buffers take.
    let question = FrontEndMessage.getFeatures.bytes()
    while SocketCalls.send(question[...], to: frontEnd.socket.number) > 0 {}
    #expect(FrontEnd(world.path).isClosed())
    world.companion.end()
    #expect(world.delegate.awaitDisconnection() == .ended)
    #expect(world.delegate.take() == ["connected", "disconnected"])
  }
}
