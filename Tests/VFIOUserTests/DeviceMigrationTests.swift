import Addressing
import DeviceMigration
import Simulation
import TestSupport
import Testing
import VFIOUser

/// Devices that migrate over a connection.
@Suite struct DeviceMigrationTests {
  enum Kind: String, CaseIterable, Sendable {
    case precopy, withoutPrecopy, peerToPeer, inSmallPieces
  }

  /// A simulated device, its server, and what drives it by its client.
  struct World {
    let pair: TestPair
    let simulated: SimulatedV2Device
    let device: any MigratableDevice

    init(_ kind: Kind) throws {
      let features: MigrationFeatures =
        switch kind {
        case .withoutPrecopy: [.stopCopy]
        case .peerToPeer: [.stopCopy, .p2p, .precopy]
        case .precopy, .inSmallPieces: [.stopCopy, .precopy]
        }
      simulated = SimulatedV2Device(
        name: "nic0", features: features,
        options: SimulatedDeviceOptions(
          pageCount: 5, byteCountPerCall: kind == .inSmallPieces ? 700 : 1 << 20))
      var options = TestPair.Options()
      options.device.migration = simulated
      if kind == .inSmallPieces { options.server.limits = MessageLimits(dataByteCountMax: 1024) }
      pair = try TestPair(options)
      device = pair.client.migratable("nic0")
    }

    func save() throws(DeviceError) -> [[UInt8]] {
      var chunks: [[UInt8]] = []
      try device.beginPrecopy()
      for round in 0..<2 as Range<UInt64> {
        try drain(into: &chunks)
        _ = device.pendingEstimate()
        simulated.work(3, seed: round + 77)
      }
      try device.enterP2P()
      try device.beginStopCopy()
      try drain(into: &chunks)
      try device.finishSaving()
      return chunks
    }

    private func drain(into chunks: inout [[UInt8]]) throws(DeviceError) {
      var buffer: [UInt8] = []
      while try device.nextChunk(into: &buffer, byteCountMax: 10_000) == .chunk {
        chunks.append(buffer)
      }
    }

    func load(_ chunks: [[UInt8]]) throws(DeviceError) {
      try device.beginResuming()
      for chunk in chunks {
        try DeviceBytes.reading(chunk) { (bytes) throws(DeviceError) in try device.load(bytes) }
      }
      try device.finishResuming()
      try device.prepareToRun()
      try device.run()
    }
  }

  @Test(arguments: Kind.allCases)
  func `state arrives whole`(kind: Kind) throws {
    let source = try World(kind)
    let destination = try World(kind)
    source.simulated.work(4, seed: 5)
    let chunks = try source.save()
    #expect(chunks.count > 1 || kind == .withoutPrecopy)
    try destination.load(chunks)
    #expect(destination.simulated.stateDigest == source.simulated.stateDigest)
    #expect(destination.simulated.trueState == .running)
    #expect(source.simulated.trueState == .stop)
    source.pair.close()
    destination.pair.close()
  }

  @Test func `a stream that is damaged fails where it is finished`() throws {
    let source = try World(.precopy)
    let destination = try World(.precopy)
    var chunks = try source.save()
    chunks.removeLast()
    #expect(throws: DeviceError.self) { try destination.load(chunks) }
    #expect(try destination.device.recover() != .running)
    #expect(destination.simulated.trueState == .running)
    source.pair.close()
    destination.pair.close()
  }

  @Test func `a device that does not migrate has no interface, and says why`() throws {
    let pair = try TestPair()
    defer { pair.close() }
    guard case .none(let reason) = pair.client.migratable("nic0").interface else {
      Issue.record("it migrates")
      return
    }
    #expect(reason.contains("no migration interface"))
  }

  // MARK: the server's side, by the catalogue

  static func set(_ raw: RawClient, _ state: UInt8) -> Int32? {
    raw.ask(
      .feature(FeatureMessage(.deviceState, .set, data: [state, 0, 0, 0, 0, 0, 0, 0])))?.errno
  }

  static func state(_ raw: RawClient) -> UInt8? {
    raw.ask(.feature(FeatureMessage(.deviceState, .get, answerByteCount: 8)))?.payload[8]
  }

  static func world() throws -> RawClient {
    var options = TestPair.Options()
    options.device.migration = SimulatedV2Device(
      name: "nic0", features: [.stopCopy, .precopy], options: SimulatedDeviceOptions(pageCount: 2))
    return try RawClient(options)
  }

  /// Every pair of states: the one asked for is reached, or EINVAL and nothing changed.
  @Test func `every arc there is is walked, every other refused`() throws {
    let paths: [UInt8: [UInt8]] = [1: [1], 2: [], 3: [1, 3], 4: [1, 4], 6: [6]]
    for (from, path) in paths {
      // RESUMING is left only by a device that has all of its state.
      for to in 0..<9 as Range<UInt8> where from != 4 || [0, 4, 5, 7, 8].contains(to) {
        let raw = try Self.world()
        defer { raw.close() }
        for step in path { #expect(Self.set(raw, step) == nil) }
        #expect(Self.state(raw) == from)
        let errno = Self.set(raw, to)
        let isRefused = [0, 5, 7, 8].contains(to) || (from == 3 && to == 6)
        #expect((errno == 22) == isRefused, "\(from) to \(to): \(errno as Any)")
        #expect(Self.state(raw) == (isRefused ? from : to))
      }
    }
  }

  @Test func `data moves only in states that have it`() throws {
    let raw = try Self.world()
    defer { raw.close() }
    let features = raw.ask(.feature(FeatureMessage(.migration, .get, answerByteCount: 8)))
    #expect(features?.payload[8] == 5)
    #expect(raw.ask(.feature(FeatureMessage(.migration, .get)))?.errno == 22)
    func read(_ count: Int) -> RawPeer.Message? { raw.ask(.migrationRead(byteCount: count)) }
    func write(_ bytes: [UInt8]) -> Int32? { raw.ask(.migrationWrite(bytes))?.errno }
    #expect(read(10)?.errno == 22 && write([1]) == 22)
    #expect(Self.set(raw, 6) == nil)
    #expect(write([1]) == 22)
    // As much as there is, in a message no longer than that.
    let first = read(1 << 20)
    let count = first.map { Int($0.payload[4]) | Int($0.payload[5]) << 8 } ?? 0
    #expect(count > 4096 && first?.payload.count == 8 + count)
    #expect(read(1 << 20)?.payload == [8, 0, 0, 0, 0, 0, 0, 0])
    #expect(raw.ask(17, [18, 0, 0, 0, 11, 0, 0, 0])?.errno == 22)
    #expect(Self.set(raw, 3) == nil)
    #expect((read(1 << 20)?.payload.count ?? 0) > 8)
    #expect(read(1 << 20)?.payload.count == 8)
    // Maps go on in every state: a guest's IOMMU does not stop for the device.
    #expect(raw.ask(ServerAnswerTests.map(ServerAnswerTests.page(16)))?.errno == nil)
    #expect(Self.set(raw, 1) == nil)
    #expect(read(10)?.errno == 22)
    #expect(raw.ask(ServerAnswerTests.unmap(ServerAnswerTests.page(16)))?.errno == nil)
    #expect(Self.set(raw, 4) == nil)
    #expect(read(10)?.errno == 22)
    _ = write([1, 2, 3])
    // What is no state of a device fails where the data end.
    #expect(Self.set(raw, 1) != nil)
    #expect(raw.ask(.reset)?.errno == nil)
    #expect(Self.state(raw) == 2)
    #expect(raw.device.resetCount == 1)
  }

  @Test func `the device's state outlives its client`() throws {
    let simulated = SimulatedV2Device(name: "nic0", features: [.stopCopy, .precopy])
    let device = TestDevice(TestDevice.Options(migration: simulated))
    let server = VFIOUserServer(device: device)
    for round in 0..<2 {
      let (left, right) = try VFIOUserSocket.pair()
      let thread = try SimulatedThread(name: "server") { server.serve(right) }
      let client = try VFIOUserClient(socket: left, name: "nic0")
      let migration = VFIOUserMigration(client: client)
      #expect(try migration.state() == (round == 0 ? .running : .stop))
      if round == 0 { _ = try migration.setState(.stop) }
      client.shutDown()
      thread.join()
    }
    #expect(device.leftCount == 2)
  }
}
