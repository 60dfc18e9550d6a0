import Addressing
import DMAContainer
import DeviceMigration
import Glibc
import Simulation
import Locking
import Testing

/// Memory behind a translation that adds 2^32, with pins.
final class PlainPort: PinningPort {
  private struct Inside {
    var writes: [(iova: IOVA, bytes: [UInt8])] = []
    var pinned: Set<IOVARange> = []
    var unpinnedWrites = 0
  }
  private let inside = Mutex(Inside())
  let mapped: IOVARange
  init(mapped: IOVARange) { self.mapped = mapped }

  var writes: [(iova: IOVA, bytes: [UInt8])] { inside.withLock { $0.writes } }
  var pinned: Set<IOVARange> { inside.withLock { $0.pinned } }
  var unpinnedWrites: Int { inside.withLock { $0.unpinnedWrites } }

  func write(_ bytes: RawSpan, at iova: IOVA) -> GPA? {
    guard let range = IOVARange(first: iova, byteCount: UInt64(bytes.byteCount)),
      mapped.contains(range)
    else { return nil }
    let copy = DeviceBytes.copy(bytes)
    inside.withLock { inside in
      inside.writes.append((iova, copy))
      if !inside.pinned.contains(range.expanded(to: .fourKiB)) { inside.unpinnedWrites += 1 }
    }
    return iova.advanced(byBytes: 1 << 32).map { GPA($0.rawValue) }
  }
  func read(into buffer: inout MutableRawSpan, at iova: IOVA) -> Bool { false }
  func pin(_ range: IOVARange) throws(ContainerError) {
    _ = inside.withLock { $0.pinned.insert(range) }
  }
  func unpin(_ range: IOVARange) {
    _ = inside.withLock { $0.pinned.remove(range) }
  }
}

@Suite struct DeviceTrafficTests {
  static func range(_ first: UInt64, _ byteCount: UInt64) -> IOVARange {
    IOVARange(first: IOVA(first), last: IOVA(first + byteCount - 1))
  }

  @Test func `a device writes while its state lets it, P2P states included, and never else`() throws
  {
    let device = SimulatedV2Device(name: "nic0", features: [.stopCopy, .p2p, .precopy])
    let port = PlainPort(mapped: Self.range(0x1000, 0x8000))
    let buffer = Self.range(0x1100, 0x3000)
    let traffic = DMATraffic(device: device, deviceNumber: 3, port: port, seed: 1) { [buffer] }
    let walk: [(DeviceState, Bool)] = [
      (.running, true), (.precopy, true), (.precopyP2P, true), (.stopCopy, false), (.stop, false),
      (.runningP2P, true), (.running, true), (.stop, false), (.resuming, false),
    ]
    for (state, mayWrite) in walk {
      _ = try device.setState(state)
      let before = port.writes.count
      for _ in 0..<20 { #expect((traffic.step(generation: 1) != nil) == mayWrite, "\(state)") }
      #expect(port.writes.count - before == (mayWrite ? 20 : 0))
    }
    let v1 = SimulatedV1Device(name: "nic1")
    let old = DMATraffic(device: v1, deviceNumber: 4, port: port, seed: 1) { [buffer] }
    #expect(old.step(generation: 1) != nil)
    try v1.writeDeviceState(0)
    #expect(old.step(generation: 1) == nil)
  }

  @Test func `every write lies in a buffer, in one page, pinned, and says who and when`() {
    let device = SimulatedV2Device(name: "nic0", features: [.stopCopy])
    let port = PlainPort(mapped: Self.range(0x1000, 0x8000))
    let buffers = [Self.range(0x1100, 0x3000), Self.range(0x7ff0, 0x10), Self.range(0x5008, 0x40)]
    let traffic = DMATraffic(
      device: device, deviceNumber: 9, port: port, seed: 7, pinnedRangeCountMax: 2
    ) { buffers }
    let digest = device.stateDigest
    for generation in 0..<200 {
      guard let write = traffic.step(generation: UInt32(generation)) else { continue }
      #expect(buffers.contains { $0.contains(write.iova) })
      #expect(write.iova.pageCount(.fourKiB) == 1)
      #expect(write.stamp.generation == UInt32(generation))
      #expect(write.gpa.rawValue == write.iova.first.rawValue + 1 << 32)
      #expect(DMAStamp(port.writes.last?.bytes ?? []) == write.stamp)
      #expect(port.pinned.count <= 2)
    }
    #expect(traffic.writeCount == 200)
    #expect(port.unpinnedWrites == 0)
    #expect(device.stateDigest != digest)
    traffic.unmapped(Self.range(0x1000, 0x8000))
    #expect(port.pinned.isEmpty && traffic.pinnedRanges.isEmpty)
  }

  @Test func `one seed gives one run, and a refused write is counted and changes nothing`() {
    func run(_ seed: UInt64) -> (UInt64, [IOVA]) {
      let device = SimulatedV2Device(name: "nic0", features: [.stopCopy])
      let port = PlainPort(mapped: Self.range(0x1000, 0x8000))
      let traffic = DMATraffic(device: device, deviceNumber: 1, port: port, seed: seed) {
        [Self.range(0x2000, 0x4000)]
      }
      for _ in 0..<50 { traffic.step(generation: 0) }
      return (device.stateDigest, port.writes.map(\.iova))
    }
    #expect(run(1) == run(1))
    #expect(run(1) != run(2))
    let device = SimulatedV2Device(name: "nic0", features: [.stopCopy])
    let digest = device.stateDigest
    let gone = DMATraffic(
      device: device, deviceNumber: 1, port: PlainPort(mapped: Self.range(0, 0x1000)), seed: 1
    ) { [Self.range(0x2000, 0x1000)] }
    #expect(gone.step(generation: 0) == nil)
    #expect(gone.refusedCount == 1 && device.stateDigest == digest)
  }

  @Test func `no write comes after the device was told to stop, with the two on two threads`()
    throws
  {
    let device = SimulatedV2Device(name: "nic0", features: [.stopCopy, .precopy])
    let port = PlainPort(mapped: Self.range(0x1000, 0x8000))
    let traffic = DMATraffic(device: device, deviceNumber: 1, port: port, seed: 1) {
      [Self.range(0x1000, 0x8000)]
    }
    // A thread and not a task: a task that yields is served after every other test that waits.
    let writer = StepThread(name: "writer", stepsPerSecond: 20_000) {
      _ = traffic.step(generation: 0)
    }
    try writer.start()
    defer { writer.stop() }
    func waits(forSteps count: UInt64) {
      let end = writer.stepCount + count
      while writer.stepCount < end { sched_yield() }
    }
    for _ in 0..<20 {
      _ = try device.setState(.stopCopy)
      let digest = device.stateDigest
      let count = port.writes.count
      waits(forSteps: 50)
      #expect(port.writes.count == count)
      #expect(device.stateDigest == digest)
      _ = try device.setState(.running)
      waits(forSteps: 2)
    }
    // Each time between two stops the device wrote.
    #expect(traffic.writeCount >= 20)
  }
}
