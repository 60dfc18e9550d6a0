import Addressing
import DMAContainer
import Locking
import Simulation
import TestSupport
import Testing
import VFIOUser

/// DMA by message, in the middle of everything else.
@Suite struct InterleavingTests {
  typealias Answers = ServerAnswerTests

  /// A server that writes by message before it answers an unmap, with and without a second socket,
  /// where nobody serves the client but the command that waits.
  @Test(arguments: [false, true])
  func `a server may do DMA before it answers an unmap`(twin: Bool) throws {
    var options = TestPair.Options()
    options.client.wantsTwinSocket = twin
    options.serves = false
    let pair = try TestPair(options)
    defer { pair.close() }
    let ram = TestRAM()
    let driver = ContainerDriver(try pair.container(ram, byMessage: true))
    try driver.start(logging: [ContainerConformance.range(0x100, 4)])
    try driver.map(ContainerConformance.range(0x100, 4), to: TestRAM.gpaFirst)
    let (device, server) = (pair.device, pair.server)
    device.beforeUnmap { region in
      let at = IOVA(region.iova.first.rawValue + 0x2010)
      #expect(device.write([7, 8, 9], at: at) != nil)
      #expect((try? server.readDMA(3, at: at)) == [7, 8, 9])
    }
    let (bytes, dirty) = try driver.unmap(ContainerConformance.range(0x100, 4))
    pair.device.beforeUnmap(nil)
    #expect(bytes == 4 << 12)
    #expect(Set(dirty.keys) == [0x102])
    #expect(ram.bytes(at: GPA(TestRAM.gpaFirst.rawValue + 0x2010), 3) == [7, 8, 9])
    #expect((pair.client.descriptors.count == 2) == twin)
  }

  @Test(arguments: [false, true])
  func `a device's thread and a client's commands do not wait for each other`(twin: Bool) throws {
    var options = TestPair.Options()
    options.client.wantsTwinSocket = twin
    let pair = try TestPair(options)
    let ram = TestRAM()
    let container = try pair.container(ram, byMessage: true)
    let driver = ContainerDriver(container)
    try driver.start(logging: [ContainerConformance.range(0x100, 64)])
    try driver.map(ContainerConformance.range(0x100, 64), to: TestRAM.gpaFirst)
    let written = Mutex<Set<UInt64>>([])
    let device = pair.device
    let writer = try SimulatedThread(name: "DMA") {
      var random = SeededGenerator(seed: 4)
      for _ in 0..<500 {
        let page = 0x100 + random.below(64 as UInt64)
        guard device.write([1, 2, 3], at: IOVA(page << 12)) != nil else { continue }
        _ = written.withLock { $0.insert(page) }
      }
    }
    var dirty: Set<UInt64> = []
    for number in 0..<300 {
      try pair.client.writeRegion(0, offset: 0, [UInt8(number & 0xff)])
      if number % 50 == 0 { dirty.formUnion(try driver.sync().keys) }
    }
    writer.join()
    dirty.formUnion(try driver.sync().keys)
    #expect(dirty == written.withLock { $0 })
    #expect(!dirty.isEmpty)
    pair.close()
    #expect(pair.client.end != nil)
  }

  @Test(arguments: [false, true])
  func `DMA that is held waits for its release, and commands do not`(twin: Bool) throws {
    var options = TestPair.Options()
    options.client.wantsTwinSocket = twin
    let pair = try TestPair(options)
    defer { pair.close() }
    let ram = TestRAM()
    let driver = ContainerDriver(try pair.container(ram, byMessage: true))
    try driver.map(ContainerConformance.range(0x100, 4), to: TestRAM.gpaFirst)
    pair.client.holdDMA()
    let device = pair.device
    let answer = Mutex<UInt64?>(nil)
    let writer = try SimulatedThread(name: "DMA") {
      let result = device.write([7], at: IOVA(0x10_0000))
      answer.withLock { $0 = result }
    }
    for number in 0..<50 { try pair.client.writeRegion(0, offset: 0, [UInt8(number)]) }
    #expect(ram.lastWritten == nil)
    pair.client.releaseDMA()
    writer.join()
    #expect(answer.withLock { $0 } == 0)
    #expect(ram.bytes(at: TestRAM.gpaFirst, 1) == [7])
  }

  /// A client that asks for much and does not read what it gets, while the server writes much by
  /// message: both sockets are full.
  @Test func `two sides that send more than a socket holds both get on`() throws {
    let pair = try TestPair()
    let ram = TestRAM()
    let container = try pair.container(ram, byMessage: true)
    try container.map(
      MapRequest(
        iova: ContainerConformance.range(0, 256), gpaFirst: TestRAM.gpaFirst, hvaFirst: nil,
        permissions: .readWrite))
    let server = pair.server
    let writer = try SimulatedThread(name: "DMA") {
      let data = [UInt8](repeating: 6, count: 1 << 20)
      for _ in 0..<8 {
        #expect((try? server.writeDMA(data, at: IOVA(0))) != nil)
        #expect((try? server.readDMA(1 << 20, at: IOVA(0))) == data)
      }
    }
    // MIG_DATA_WRITE is refused by this device, after all of it was sent.
    let large = VFIOUserRequest.migrationWrite([UInt8](repeating: 1, count: 1 << 20))
    for _ in 0..<16 {
      #expect(throws: VFIOUserError.self) { try pair.client.request(large) }
    }
    writer.join()
    #expect(pair.client.end == nil)
    pair.close()
  }

  @Test func `commands that come while a server awaits DMA are served in order`() throws {
    let raw = try RawClient()
    let map = Answers.map(Answers.page(16))
    #expect(raw.ask(map)?.errno == nil)
    let device = raw.device
    let isWritten = Mutex<UInt64?>(nil)
    let writer = try SimulatedThread(name: "DMA") {
      let result = device.write([1, 2, 3, 4], at: IOVA(0x1_0000))
      isWritten.withLock { $0 = result }
    }
    let command = try #require(raw.peer.receive())
    #expect(command.header.command == 12)
    #expect(command.payload == [0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    for id in 10..<15 as Range<UInt16> { raw.peer.send(.deviceInformation, id: id) }
    raw.peer.send(RawPeer.answer(command, Array(command.payload.prefix(16))))
    writer.join()
    #expect(isWritten.withLock { $0 } == 0)
    #expect((0..<5).map { _ in raw.peer.receive()?.header.id } == [10, 11, 12, 13, 14])
    raw.close()
  }

  @Test func `an answer to DMA_WRITE without its body is one, an error is one, DMA_READ needs all`()
    throws
  {
    let raw = try RawClient()
    #expect(raw.ask(Answers.map(Answers.page(16)))?.errno == nil)
    let server = raw.server
    func answered(
      _ body: @escaping @Sendable () -> Int32?, _ answer: (RawPeer.Message) -> [UInt8]
    ) throws -> Int32? {
      let result = Mutex<Int32?>(nil)
      let thread = try SimulatedThread(name: "DMA") {
        let errno = body()
        result.withLock { $0 = errno }
      }
      let command = try #require(raw.peer.receive())
      raw.peer.send(answer(command))
      thread.join()
      return result.withLock { $0 }
    }
    @Sendable func write() -> Int32? {
      do throws(VFIOUserError) {
        try server.writeDMA([1, 2], at: IOVA(0x1_0000))
        return nil
      } catch {
        return error.errno
      }
    }
    @Sendable func read() -> Int32? {
      do throws(VFIOUserError) {
        _ = try server.readDMA(2, at: IOVA(0x1_0000))
        return nil
      } catch {
        return error.errno
      }
    }
    #expect(try answered(write) { RawPeer.answer($0) } == nil)
    #expect(try answered(write) { RawPeer.answer($0, [2, 0, 0, 0]) } == nil)
    #expect(try answered(write) { RawPeer.answer($0, errno: 14) } == 14)
    #expect(try answered(read) { RawPeer.answer($0, errno: 14) } == 14)
    #expect(try answered(read) { RawPeer.answer($0, Array($0.payload.prefix(16))) } == 22)
    #expect(
      try answered(read) { RawPeer.answer($0, Array($0.payload.prefix(16)) + [4, 5]) } == nil)
    raw.close()
  }

  @Test func `DMA that no mapping allows is EFAULT, and marks nothing`() throws {
    let pair = try TestPair()
    let ram = TestRAM()
    let container = try pair.container(ram, byMessage: true)
    let driver = ContainerDriver(container)
    try driver.start(logging: [])
    try driver.map(ContainerConformance.range(0x100, 2), to: TestRAM.gpaFirst)
    try driver.map(
      ContainerConformance.range(0x102, 2), to: GPA(TestRAM.gpaFirst.rawValue + 0x8000),
      permissions: .read)
    func errno(_ iova: UInt64, _ count: Int, writing: Bool) -> Int32? {
      do throws(VFIOUserError) {
        if writing {
          try pair.server.writeDMA([UInt8](repeating: 1, count: count), at: IOVA(iova))
        } else {
          _ = try pair.server.readDMA(count, at: IOVA(iova))
        }
        return nil
      } catch {
        return error.errno
      }
    }
    #expect(errno(0xf_f000, 4, writing: true) == 14)
    #expect(errno(0x10_1ffe, 4, writing: true) == 14)
    #expect(errno(0x10_2000, 4, writing: true) == 14)
    #expect(errno(0x10_3ffe, 4, writing: false) == 14)
    #expect(try driver.sync().isEmpty)
    // Across two mappings whose memory is apart.
    #expect(errno(0x10_1ffe, 4, writing: false) == nil)
    #expect(errno(0x10_0ffe, 4, writing: true) == nil)
    #expect(try Set(driver.sync().keys) == [0x100, 0x101])
    // What failed half way counts as written.
    ram.refuse(true)
    #expect(errno(0x10_1000, 4, writing: true) == 14)
    #expect(try Set(driver.sync().keys) == [0x101])
    pair.close()
  }
}
