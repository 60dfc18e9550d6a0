import Addressing
import DMAContainer
import DeviceMigration
import Locking
import VFIOUser

/// A device behind a server: registers, a region that can be mapped, interrupts, and a DMA engine
/// that writes where it is told.
final class TestDevice: VFIOUserDevice {
  struct Options: Sendable {
    var hasLog = true
    /// A planted fault: it writes and does not say so.
    var forgetsWrites = false
    var migration: (any VFIOMigrationV2)?
  }

  private struct State: Sendable {
    var registers = [UInt8](repeating: 0, count: 64)
    var regions: [UInt64: DMARegion] = [:]
    var interrupts: [SetIRQsMessage] = []
    var eventDescriptors: [OwnedDescriptor] = []
    var resetCount = 0
    var leftCount = 0
    var mapErrno: Int32 = 0
    var unmapErrno: Int32 = 0
    var beforeUnmap: (@Sendable (DMARegion) -> Void)?
    var regionDescriptor: OwnedDescriptor?
  }

  let name = "test device"
  let options: Options
  private let log: WriteLog?
  private let state = Mutex(State())
  private let server = Mutex<VFIOUserServer?>(nil)

  init(_ options: Options = Options()) {
    self.options = options
    log = options.hasLog ? WriteLog(name: "test device log") : nil
  }

  func attach(_ server: VFIOUserServer?) { self.server.withLock { $0 = server } }

  // MARK: what tests ask and set

  var regionCount: Int { state.withLock { $0.regions.count } }
  var regions: [DMARegion] {
    state.withLock { $0.regions.values.sorted { $0.iova.first < $1.iova.first } }
  }
  var interrupts: [SetIRQsMessage] { state.withLock { $0.interrupts } }
  var eventDescriptorCount: Int { state.withLock { $0.eventDescriptors.count } }
  var resetCount: Int { state.withLock { $0.resetCount } }
  var leftCount: Int { state.withLock { $0.leftCount } }
  func refuseMaps(_ errno: Int32) { state.withLock { $0.mapErrno = errno } }
  func refuseUnmaps(_ errno: Int32) { state.withLock { $0.unmapErrno = errno } }
  func beforeUnmap(_ body: (@Sendable (DMARegion) -> Void)?) {
    state.withLock { $0.beforeUnmap = body }
  }
  func giveRegion(_ descriptor: OwnedDescriptor?) {
    state.withLock { $0.regionDescriptor = descriptor }
  }

  /// Writes where it is mapped writable.
  /// - Returns: the offset in the file, or 0 by message; nil when it may not.
  func write(_ bytes: [UInt8], at iova: IOVA) -> UInt64? {
    guard let range = IOVARange(first: iova, byteCount: UInt64(bytes.count)) else { return nil }
    let region = state.withLock { state in
      state.regions.values.first { $0.iova.contains(range) }
    }
    guard let region, region.permissions.contains(.write) else { return nil }
    switch region.memory {
    case .file(let file, let offset, _):
      let at = offset + (iova.rawValue - region.iova.first.rawValue)
      // Under the lock: an unmap comes before it or after it.
      let isWritten = state.withLock { state in
        guard state.regions[region.iova.first.rawValue] != nil else { return false }
        guard TestFile.write(bytes, to: file, Int(at)) else { return false }
        if !options.forgetsWrites { log?.record(range) }
        return true
      }
      return isWritten ? at : nil
    case .byMessage:
      guard let server = server.withLock({ $0 }) else { return nil }
      do throws(VFIOUserError) {
        try server.writeDMA(bytes, at: iova)
        return 0
      } catch {
        return nil
      }
    }
  }

  // MARK: VFIOUserDevice

  var information: DeviceInformation {
    DeviceInformation(canReset: true, isPCI: true, regionCount: 9, irqCount: 5)
  }

  func region(_ index: UInt32) -> (information: RegionInformation, descriptor: OwnedDescriptor?)? {
    switch index {
    case 0: return (RegionInformation(index: 0, access: [.read, .write], byteCount: 64), nil)
    case 1:
      let descriptor = state.withLock { $0.regionDescriptor }
      return (
        RegionInformation(
          index: 1, access: [.read, .write, .map], byteCount: 0x3000, mapOffset: 0x1000,
          areas: [.init(offset: 0, byteCount: 0x1000), .init(offset: 0x2000, byteCount: 0x1000)]),
        descriptor
      )
    case 2..<9: return (RegionInformation(index: index, access: [], byteCount: 0), nil)
    default: return nil
    }
  }

  private func check(_ access: RegionAccess) throws(VFIOUserError) -> Range<Int> {
    let end = access.offset + UInt64(access.byteCount)
    guard access.region == 0, end <= 64 else {
      throw VFIOUserError(.refused, object: name, operation: "region", errno: 22)
    }
    return Int(access.offset)..<Int(end)
  }

  func readRegion(_ access: RegionAccess) throws(VFIOUserError) -> [UInt8] {
    let range = try check(access)
    return state.withLock { Array($0.registers[range]) }
  }

  func writeRegion(_ access: RegionAccess, _ data: [UInt8]) throws(VFIOUserError) {
    let range = try check(access)
    state.withLock { $0.registers.replaceSubrange(range, with: data) }
  }

  func irq(_ index: UInt32) -> IRQInformation? {
    guard index < 5 else { return nil }
    let counts: [UInt32] = [1, 0, 32, 0, 1]
    return IRQInformation(
      index: index, flags: .eventDescriptor, count: counts[Int(index)])
  }

  func setIRQs(
    _ message: SetIRQsMessage, descriptors: [OwnedDescriptor]
  ) throws(VFIOUserError) {
    state.withLock { state in
      state.interrupts.append(message)
      state.eventDescriptors += descriptors
    }
  }

  func reset() throws(VFIOUserError) {
    state.withLock { state in
      state.resetCount += 1
      state.registers = [UInt8](repeating: 0, count: 64)
    }
  }

  func map(_ region: DMARegion) throws(VFIOUserError) {
    let errno = state.withLock { state in
      if state.mapErrno == 0 { state.regions[region.iova.first.rawValue] = region }
      return state.mapErrno
    }
    if errno != 0 {
      throw VFIOUserError(.refused, object: name, operation: "map", errno: errno)
    }
  }

  func unmap(_ region: DMARegion) throws(VFIOUserError) {
    state.withLock { $0.beforeUnmap }?(region)
    let errno = state.withLock { state in
      if state.unmapErrno == 0 { state.regions[region.iova.first.rawValue] = nil }
      return state.unmapErrno
    }
    if errno != 0 {
      throw VFIOUserError(.refused, object: name, operation: "unmap", errno: errno)
    }
  }

  var dirtyLog: (any DirtyLog)? { log }
  var migration: (any VFIOMigrationV2)? { options.migration }

  func clientLeft() {
    state.withLock { state in
      state.leftCount += 1
      state.eventDescriptors = []
    }
  }
}
