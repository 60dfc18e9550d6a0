import Addressing
import DMAContainer
import DeviceMigration
import Locking
import PageBitmap
import Simulation
import VFIOKernel

/// A device behind the fake kernel.
final class FakeDevice: Sendable {
  struct Failure: Error { let errno: Int32 }

  /// How the v1 region can be mapped.
  enum Mappable: CaseIterable { case no, whole, sparse }

  let log: SimulatedDeviceLog?
  let v2: SimulatedV2Device?
  let v1: FakeV1Region?
  let configuration: SimulatedConfigurationSpace?
  /// The page size the device logs in, whatever it was asked for.
  let loggedPageSize: UInt64?
  private let resets = Mutex(0)

  init(
    log: SimulatedDeviceLog? = nil, v2: SimulatedV2Device? = nil, v1: FakeV1Region? = nil,
    configuration: SimulatedConfigurationSpace? = nil, loggedPageSize: UInt64? = nil
  ) {
    self.log = log
    self.v2 = v2
    self.v1 = v1
    self.configuration = configuration
    self.loggedPageSize = loggedPageSize
  }

  var resetCount: Int { resets.withLock { $0 } }

  func control(_ request: VFIORequest) -> Int32 {
    guard request == .reset else { return -25 }
    resets.withLock { $0 += 1 }
    do throws(DeviceError) {
      try v2?.reset()
      try v1?.device.reset()
      return 0
    } catch {
      return -error.errno.rawValue
    }
  }

  func control(_ request: VFIORequest, _ bytes: inout Bytes, _ kernel: FakeKernel) -> Int32 {
    switch request.number {
    case 0x3B6B:
      guard bytes.u32(0) >= 16 else { return -22 }
      bytes.store(10 as UInt32, 8)
      return 0
    case 0x3B6C: return regionInformation(&bytes)
    case 0x3B75: return feature(&bytes, kernel)
    default: return -25
    }
  }

  // MARK: VFIO_DEVICE_FEATURE

  private func feature(_ bytes: inout Bytes, _ kernel: FakeKernel) -> Int32 {
    let flags = bytes.u32(4)
    guard bytes.u32(0) >= 8, flags & ~0x7_ffff == 0 else { return -22 }
    let (isGet, isSet) = (flags & 0x1_0000 != 0, flags & 0x2_0000 != 0)
    let isProbe = flags & 0x4_0000 != 0
    guard isProbe || isGet != isSet else { return -22 }
    let id = flags & 0xffff
    // Feature: what may be done with it and the bytes of its payload.
    let known: [UInt32: (get: Bool, set: Bool, byteCount: UInt32, has: Bool)] = [
      1: (true, false, 8, v2 != nil), 2: (true, true, 8, v2 != nil),
      6: (false, true, 24, log != nil), 7: (false, true, 0, log != nil),
      8: (true, false, 32, log != nil), 9: (true, false, 8, v2 != nil),
      12: (false, true, 0, v2 != nil),
    ]
    guard let use = known[id], use.has else { return -25 }
    guard !(isGet && !use.get), !(isSet && !use.set) else { return -22 }
    if isProbe { return 0 }
    guard bytes.u32(0) >= 8 + use.byteCount else { return -22 }
    do {
      switch id {
      case 6: try startLog(&bytes)
      case 7: try log?.stop()
      case 8: try report(bytes)
      default: try migrate(id, isSet, &bytes, kernel)
      }
      return 0
    } catch let error as ContainerError {
      return -error.errno
    } catch let error as DeviceError {
      return -error.errno.rawValue
    } catch {
      return -14
    }
  }

  private func migrate(
    _ id: UInt32, _ isSet: Bool, _ bytes: inout Bytes, _ kernel: FakeKernel
  ) throws(DeviceError) {
    guard let v2 else { return }
    switch (id, isSet) {
    case (1, _): bytes.store(try v2.migrationFeatures().rawValue, 8)
    case (12, _):
      guard try v2.enablePrecopyRestarts() else {
        throw DeviceError(object: v2.name, operation: "SET", errno: .einval)
      }
    case (9, _): bytes.store(try v2.stopCopyByteCount(), 8)
    case (2, false):
      bytes.store(try v2.state().rawValue, 8)
      bytes.store(-1 as Int32, 12)
    default:
      guard let state = DeviceState(rawValue: bytes.u32(8)) else {
        throw DeviceError(object: v2.name, operation: "SET", errno: .einval)
      }
      let session = try v2.setState(state)
      bytes.store(session.map { kernel.add(.session($0)) } ?? -1, 12)
    }
  }

  private func startLog(_ bytes: inout Bytes) throws(ContainerError) {
    let count = Int(bytes.u32(16))
    guard let log, count > 0 else {
      throw ContainerError(.startLog, object: "log", errno: ContainerErrno.einval)
    }
    guard count <= 256 else {
      throw ContainerError(.startLog, object: log.name, errno: ContainerErrno.e2big)
    }
    let pairs = bytes.u64(24)
    var ranges: [IOVARange] = []
    for index in 0..<count {
      let iova = FakeMemory.word(pairs, 2 * index)
      let length = FakeMemory.word(pairs, 2 * index + 1)
      guard let range = IOVARange(first: IOVA(iova), byteCount: length) else {
        throw ContainerError(.startLog, object: log.name, errno: ContainerErrno.eoverflow)
      }
      ranges.append(range)
    }
    try log.start(logging: ranges, pageSize: PageSize(bytes: bytes.u64(8)) ?? .fourKiB)
    if let loggedPageSize { bytes.store(loggedPageSize, 8) }
  }

  private func report(_ bytes: Bytes) throws(ContainerError) {
    func refused(_ errno: Int32) -> ContainerError {
      ContainerError(.query, object: "log", errno: errno)
    }
    guard let log, let pageSize = PageSize(bytes: bytes.u64(24)) else {
      throw refused(ContainerErrno.einval)
    }
    guard let range = IOVARange(first: IOVA(bytes.u64(8)), byteCount: bytes.u64(16)) else {
      throw refused(ContainerErrno.eoverflow)
    }
    let bytesNeeded = QueryBitmap.byteCount(window: range, pageSize: pageSize) ?? 8
    guard var bitmap = try? QueryBitmap(byteCountMax: bytesNeeded),
      (try? bitmap.reset(window: range, pageSize: pageSize)) != nil
    else { throw refused(ContainerErrno.enomem) }
    try log.query(&bitmap, clear: true)
    let address = bytes.u64(32)
    bitmap.forEachDirtyWord { index, bits in
      FakeMemory.setWord(address, index, FakeMemory.word(address, index) | bits)
    }
  }

  // MARK: regions, each at its index times 2^40

  private func regionInformation(_ bytes: inout Bytes) -> Int32 {
    guard bytes.u32(0) >= 32 else { return -22 }
    let index = Int(bytes.u32(8))
    bytes.store(UInt64(index) << 40, 24)
    switch index {
    case 0...5:
      let size = (try? configuration?.barByteCount(index)) ?? 0
      bytes.store((size == 0 ? 0 : 7) as UInt32, 4)
      bytes.store(size, 16)
      return 0
    case 7 where configuration != nil:
      bytes.store(3 as UInt32, 4)
      bytes.store(256 as UInt64, 16)
      return 0
    case 9:
      guard let v1 else { return -22 }
      return v1.information(&bytes)
    default: return -22
    }
  }

  func read(_ byteCount: Int, at position: UInt64) -> Result<[UInt8], Failure> {
    let offset = position & 0xff_ffff_ffff
    switch position >> 40 {
    case 7:
      guard let configuration else { break }
      do throws(DeviceError) {
        let value = try configuration.readConfiguration(at: Int(offset), byteCount: byteCount)
        return .success((0..<byteCount).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) })
      } catch {
        return .failure(Failure(errno: error.errno.rawValue))
      }
    case 9: if let v1 { return v1.read(byteCount, at: Int(offset)) }
    default: break
    }
    return .failure(Failure(errno: 22))
  }

  func write(_ bytes: [UInt8], at position: UInt64) -> Int {
    let offset = position & 0xff_ffff_ffff
    switch position >> 40 {
    case 7:
      guard let configuration else { return -22 }
      var value: UInt32 = 0
      for (index, byte) in bytes.enumerated() { value |= UInt32(byte) << UInt32(8 * index) }
      do throws(DeviceError) {
        try configuration.writeConfiguration(value, at: Int(offset), byteCount: bytes.count)
        return bytes.count
      } catch {
        return -Int(error.errno.rawValue)
      }
    case 9: return v1?.write(bytes, at: Int(offset)) ?? -22
    default: return -22
    }
  }

  func map(offset: UInt64, byteCount: UInt64) -> Int {
    guard offset >> 40 == 9, let v1 else { return -22 }
    return v1.map(offset: Int(offset & 0xff_ffff_ffff), byteCount: Int(byteCount))
  }
}
