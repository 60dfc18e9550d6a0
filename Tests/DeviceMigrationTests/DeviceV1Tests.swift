import DeviceMigration
import Simulation
import Locking
import Testing

/// A migration region that writes down every access, and passes it on.
final class RecordingRegion: VFIOMigrationV1 {
  let device: any VFIOMigrationV1
  private let log = Mutex<[String]>([])
  init(_ device: any VFIOMigrationV1) { self.device = device }

  var accesses: [String] { log.withLock { $0 } }
  private func note(_ access: String) { log.withLock { $0.append(access) } }

  var regionByteCount: UInt64 { device.regionByteCount }
  func readDeviceState() throws(DeviceError) -> UInt32 { try device.readDeviceState() }
  func writeDeviceState(_ value: UInt32) throws(DeviceError) {
    note("state \(DeviceStateV1(value))")
    try device.writeDeviceState(value)
  }
  func readPendingBytes() throws(DeviceError) -> UInt64 {
    let value = try device.readPendingBytes()
    note(value == 0 ? "pending 0" : "pending")
    return value
  }
  func readDataOffset() throws(DeviceError) -> UInt64 {
    note("offset")
    return try device.readDataOffset()
  }
  func readDataSize() throws(DeviceError) -> UInt64 {
    note("size")
    return try device.readDataSize()
  }
  func writeDataSize(_ value: UInt64) throws(DeviceError) {
    note("size written")
    try device.writeDataSize(value)
  }
  func readData(
    atRegionOffset offset: UInt64, into buffer: inout MutableRawSpan
  ) throws(DeviceError) {
    note("data")
    try device.readData(atRegionOffset: offset, into: &buffer)
  }
  func writeData(_ bytes: RawSpan, atRegionOffset offset: UInt64) throws(DeviceError) {
    note("data written")
    try device.writeData(bytes, atRegionOffset: offset)
  }
  func reset() throws(DeviceError) { try device.reset() }
}

@Suite struct DeviceV1Tests {
  /// Where a recorded save leaves the order pending, offset, size, data; the first such place.
  static func disorder(_ accesses: [String]) -> String? {
    let follows: [String: Set<String>] = [
      "pending": ["offset", "pending", "pending 0"], "offset": ["size"], "size": ["data"],
      "data": ["pending", "pending 0"], "pending 0": ["pending", "pending 0"],
    ]
    let reads = accesses.filter { !$0.hasPrefix("state") }
    for (before, after) in zip(reads, reads.dropFirst()) {
      if follows[before]?.contains(after) != true { return "\(before), then \(after)" }
    }
    return nil
  }

  private func saved(
    _ simulated: SimulatedV1Device
  ) throws -> (chunks: [[UInt8]], accesses: [String]) {
    let region = RecordingRegion(simulated)
    let device = MigratableDeviceV1(name: "nic1", migration: region)
    let under = DeviceUnderTest(
      device: device, working: simulated, faults: simulated.faults,
      trueState: { simulated.trueState })
    return (try DeviceJourney.save(under), region.accesses)
  }

  @Test func `registers are read in the mandatory order, with estimates between`() throws {
    let simulated = SimulatedV1Device(name: "nic1", options: .init(pageCount: 12))
    simulated.work(10, seed: 2)
    let (chunks, accesses) = try saved(simulated)
    #expect(chunks.count > 3)
    #expect(Self.disorder(accesses) == nil)
    #expect(accesses.filter { $0 == "data" }.count == chunks.count)
    #expect(
      accesses.filter { $0.hasPrefix("state") } == [
        "state _RUNNING|_SAVING", "state _SAVING", "state _STOPPED",
      ])
    let stop = accesses.firstIndex(of: "state _STOPPED") ?? 0
    #expect(stop > 0 && accesses[stop - 1] == "pending 0")
  }

  @Test func `the check of the order finds a planted fault`() {
    #expect(Self.disorder(["pending", "offset", "data"]) == "offset, then data")
    #expect(
      Self.disorder(["pending", "offset", "size", "data", "offset"]) == "data, then offset")
  }

  @Test func `the device's own bits of device_state are kept`() throws {
    let simulated = SimulatedV1Device(name: "nic1", options: .init(pageCount: 2))
    let own = simulated.trueDeviceState & ~7
    #expect(own != 0)
    _ = try saved(simulated)
    #expect(simulated.trueDeviceState == own)
  }

  @Test func `chunks arrive as they were cut, and a boundary moved is refused`() throws {
    let source = SimulatedV1Device(name: "nic1", options: .init(pageCount: 12))
    source.work(10, seed: 2)
    let (chunks, _) = try saved(source)
    #expect(Set(chunks.map(\.count)).count > 2)
    var moved = chunks
    moved[0].append(moved[1].removeFirst())
    var joined = chunks
    joined[0] += joined.remove(at: 1)
    var swapped = chunks
    swapped.swapAt(0, 1)
    for (name, wrong) in [("moved", moved), ("joined", joined), ("swapped", swapped)] {
      let destination = SimulatedV1Device(name: "nic1", options: .init(pageCount: 12))
      let device = MigratableDeviceV1(name: "nic1", migration: destination)
      let under = DeviceUnderTest(
        device: device, working: destination, faults: destination.faults,
        trueState: { destination.trueState })
      #expect(throws: DeviceError.self, "\(name)") { try DeviceJourney.load(wrong, under) }
      #expect(device.state == .error && destination.trueState == .error)
      guard case .reset = try device.recover() else {
        Issue.record("\(name): not reset")
        continue
      }
      try DeviceJourney.load(chunks, under)
      #expect(destination.stateDigest == source.stateDigest)
    }
  }

  @Test func `offsets and sizes that leave the region are named and not followed`() throws {
    // readDeviceState, its copy before the write, the write, the check: then pending_bytes.
    for (call, word) in [(5, "data_offset"), (6, "data_offset")] {
      let simulated = SimulatedV1Device(name: "nic1", options: .init(pageCount: 4))
      let device = MigratableDeviceV1(name: "nic1", migration: simulated)
      let before = simulated.faults.callCount
      simulated.faults.plan(.lie, afterCalls: call)
      try device.beginPrecopy()
      #expect(simulated.faults.callCount - before == 4)
      var buffer: [UInt8] = []
      do throws(DeviceError) {
        _ = try device.nextChunk(into: &buffer, byteCountMax: 1)
        Issue.record("followed")
      } catch {
        #expect(error.reason == .protocolBroken)
        #expect(error.description.contains(word), "\(error)")
        #expect(error.description.contains("leaves the data section"))
      }
      // Nothing was acknowledged, by an estimate neither: the same chunk can still be had.
      #expect(device.pendingEstimate().stopCopyBytes ?? 0 > 4096)
      #expect(try device.nextChunk(into: &buffer, byteCountMax: 1) == .chunk)
      #expect(buffer.count > 4096)
    }
  }

  @Test func `a chunk that can not fit the region is refused before it is written`() throws {
    let simulated = SimulatedV1Device(name: "nic1")
    let region = RecordingRegion(simulated)
    let device = MigratableDeviceV1(name: "nic1", migration: region)
    try device.beginResuming()
    let large = [UInt8](repeating: 1, count: Int(simulated.regionByteCount))
    #expect(throws: DeviceError.self) {
      try DeviceBytes.reading(large) { (bytes) throws(DeviceError) in try device.load(bytes) }
    }
    #expect(!region.accesses.contains("data written"))
    #expect(device.state == .resuming)
  }

  @Test func `every combination of bits is what the header says`() {
    let names = (0..<8).map { DeviceStateV1($0 | 0xf0).v2Equivalent }
    #expect(
      names == [.stop, .running, .stopCopy, .precopy, .resuming, nil, .error, nil])
    for state in DeviceState.allCases {
      guard let value = DeviceStateV1(0xabcd_ef08).replaced(by: state) else {
        #expect([.error, .runningP2P, .precopyP2P].contains(state))
        continue
      }
      #expect(value.v2Equivalent == state)
      #expect(value.rawValue & ~7 == 0xabcd_ef08)
    }
  }
}
