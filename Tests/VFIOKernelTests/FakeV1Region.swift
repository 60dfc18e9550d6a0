import DeviceMigration
import Locking
import Simulation

/// The v1 migration region of a simulated device as bytes: registers with their effects, and
/// memory, part of which can be mapped, where the chunks lie.
final class FakeV1Region: Sendable {
  let device: SimulatedV1Device
  let mappable: FakeDevice.Mappable
  private let memory: FakeRegionMemory
  /// Where the chunk to be loaded goes.
  private let offset = Mutex<UInt64>(0)

  init(_ device: SimulatedV1Device, mappable: FakeDevice.Mappable) {
    self.device = device
    self.mappable = mappable
    self.memory = FakeRegionMemory(byteCount: Int(device.regionByteCount))
  }

  private static let pageByteCount = 4096

  /// Every second page from the third on, and the last.
  private var areas: [(offset: Int, byteCount: Int)] {
    switch mappable {
    case .no: []
    case .whole: [(0, memory.byteCount)]
    case .sparse:
      stride(from: 2 * Self.pageByteCount, to: memory.byteCount, by: 2 * Self.pageByteCount)
        .map { ($0, Self.pageByteCount) }.filter { $0.0 + $0.1 <= memory.byteCount }
    }
  }

  /// Region info with the type capability, and the sparse one where there is one.
  func information(_ bytes: inout Bytes) -> Int32 {
    let argsz = Int(bytes.u32(0))
    var chain = Bytes.structure(2 as UInt16, 1 as UInt16, 0 as UInt32, 3 as UInt32, 1 as UInt32)
    if mappable == .sparse {
      var first = Bytes(chain)
      first.store(48 as UInt32, 4)
      chain = first.bytes
      chain += Bytes.structure(
        1 as UInt16, 1 as UInt16, 0 as UInt32, UInt32(areas.count), 0 as UInt32)
      // In the order no one expects.
      for area in areas.reversed() {
        chain += Bytes.structure(UInt64(area.offset), UInt64(area.byteCount))
      }
    }
    bytes.store((mappable == .no ? 11 : 15) as UInt32, 4)
    bytes.store(UInt64(memory.byteCount), 16)
    guard argsz >= 32 + chain.count else {
      bytes.store(UInt32(32 + chain.count), 0)
      bytes.store(0 as UInt32, 12)
      return 0
    }
    bytes.store(32 as UInt32, 12)
    bytes.bytes.replaceSubrange(32..<32 + chain.count, with: chain)
    return 0
  }

  func map(offset: Int, byteCount: Int) -> Int {
    guard areas.contains(where: { $0.offset == offset && $0.byteCount == byteCount }) else {
      return -22
    }
    return Int(memory.address) + offset
  }

  func read(_ byteCount: Int, at offset: Int) -> Result<[UInt8], FakeDevice.Failure> {
    do throws(DeviceError) {
      switch (offset, byteCount) {
      case (0, 4): return .success(Bytes.structure(try device.readDeviceState()))
      case (8, 8): return .success(Bytes.structure(try device.readPendingBytes()))
      case (16, 8):
        let at = try device.readDataOffset()
        self.offset.withLock { $0 = at }
        return .success(Bytes.structure(at))
      case (24, 8): return .success(Bytes.structure(try prepare()))
      case (32..., _) where offset + byteCount <= memory.byteCount:
        return .success(memory[offset..<offset + byteCount])
      default: return .failure(.init(errno: 22))
      }
    } catch {
      return .failure(.init(errno: error.errno.rawValue))
    }
  }

  /// The chunk is in memory when its size is known.
  private func prepare() throws(DeviceError) -> UInt64 {
    let size = try device.readDataSize()
    let at = Int(offset.withLock { $0 })
    var chunk = [UInt8](repeating: 0, count: Int(size))
    try DeviceBytes.writing(&chunk, first: chunk.count) { (span) throws(DeviceError) in
      try device.readData(atRegionOffset: UInt64(at), into: &span)
    }
    memory[at..<at + chunk.count] = chunk
    return size
  }

  func write(_ bytes: [UInt8], at offset: Int) -> Int {
    do throws(DeviceError) {
      switch (offset, bytes.count) {
      case (0, 4): try device.writeDeviceState(Bytes(bytes).u32(0))
      case (24, 8):
        let size = Int(Bytes(bytes).u64(0))
        let at = Int(self.offset.withLock { $0 })
        let chunk = memory[at..<at + size]
        try DeviceBytes.reading(chunk) { (span) throws(DeviceError) in
          try device.writeData(span, atRegionOffset: UInt64(at))
        }
        try device.writeDataSize(UInt64(size))
      case (32..., _) where offset + bytes.count <= memory.byteCount:
        memory[offset..<offset + bytes.count] = bytes
      default: return -22
      }
      return bytes.count
    } catch {
      return -Int(error.errno.rawValue)
    }
  }
}
