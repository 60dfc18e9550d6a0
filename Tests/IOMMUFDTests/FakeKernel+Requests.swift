import Addressing
import DMAContainer
import IOMMUFD
import Locking
import PageBitmap
import Simulation
import TestSupport

extension FakeKernel {
  private func word(_ call: borrowing MutableRawSpan, _ offset: Int) -> UInt32 {
    FakeBytes.load(call, offset, as: UInt32.self)
  }

  private func long(_ call: borrowing MutableRawSpan, _ offset: Int) -> UInt64 {
    FakeBytes.load(call, offset, as: UInt64.self)
  }

  private func hasIOAS(_ id: UInt32) -> Bool {
    if case .ioas = object(id) { true } else { false }
  }

  /// A device that is attached holds its HWPT; the test looks whether objects are left.
  func destroy(_ call: borrowing MutableRawSpan) -> Int32 {
    let id = word(call, 4)
    return state.withLock { $0.objects.removeValue(forKey: id) == nil ? -2 : 0 }
  }

  func allocateIOAS(_ call: inout MutableRawSpan) -> Int32 {
    guard word(call, 4) == 0 else { return -95 }
    call.storeBytes(of: register(.ioas), toByteOffset: 8, as: UInt32.self)
    return 0
  }

  func iovaRanges(_ call: inout MutableRawSpan) -> Int32 {
    guard word(call, 12) == 0 else { return -95 }
    guard hasIOAS(word(call, 4)) else { return -2 }
    let room = Int(word(call, 8))
    let words = validRanges.prefix(room).flatMap { [$0.first.rawValue, $0.last.rawValue] }
    FakeBytes.store(words, at: long(call, 16))
    call.storeBytes(of: UInt32(validRanges.count), toByteOffset: 8, as: UInt32.self)
    call.storeBytes(of: alignment, toByteOffset: 24, as: UInt64.self)
    return validRanges.count > room ? -90 : 0
  }

  func option(_ call: borrowing MutableRawSpan) -> Int32 {
    // op 0 sets; option 1 is HUGE_PAGES.
    guard FakeBytes.load(call, 10, as: UInt16.self) == 0, word(call, 4) == 1 else { return -95 }
    guard FakeBytes.load(call, 8, as: UInt16.self) == 0 else { return -95 }
    guard hasIOAS(word(call, 12)) else { return -2 }
    let value = long(call, 16)
    state.withLock { $0.hugePages = value }
    return 0
  }

  func allocateHWPT(_ call: inout MutableRawSpan) -> Int32 {
    guard word(call, 4) == 2, word(call, 20) == 0, word(call, 24) == 0 else { return -95 }
    guard hasIOAS(word(call, 12)), case .device(let hardware, let name) = object(word(call, 8))
    else { return -2 }
    guard case .tracking(let iommu) = hardware else { return -95 }
    let hwpt = container.allocateHWPT("\(name) table")
    let id = register(.hwpt(hwpt, iommu: iommu))
    call.storeBytes(of: id, toByteOffset: 16, as: UInt32.self)
    return 0
  }

  func hardwareInformation(_ call: inout MutableRawSpan) -> Int32 {
    guard word(call, 4) == 0 else { return -95 }
    guard case .device(let hardware, _) = object(word(call, 8)) else { return -2 }
    let capabilities: UInt64
    switch hardware {
    case .emulated: return -2
    case .untracking: capabilities = 0
    case .tracking: capabilities = 1
    }
    call.storeBytes(of: capabilities, toByteOffset: 32, as: UInt64.self)
    return 0
  }

  func map(_ call: borrowing MutableRawSpan) -> Int32 {
    guard word(call, 12) == 0 else { return -95 }
    let address = long(call, 16)
    guard address >= Self.hvaFirst.rawValue else { return -14 }
    state.withLock { $0.maps.append((.map, HVA(address))) }
    return map(call, memoryOffset: address - Self.hvaFirst.rawValue)
  }

  func mapFile(_ call: borrowing MutableRawSpan) -> Int32 {
    guard word(call, 12) == UInt32(Self.memoryFile) else { return -9 }
    state.withLock { $0.maps.append((.mapFile, nil)) }
    return map(call, memoryOffset: long(call, 16))
  }

  private func map(_ call: borrowing MutableRawSpan, memoryOffset: UInt64) -> Int32 {
    let flags = word(call, 4)
    guard flags & ~7 == 0 else { return -95 }
    guard flags & 6 != 0 else { return -22 }
    // This kernel chooses no IOVA.
    guard flags & 1 != 0 else { return -95 }
    guard hasIOAS(word(call, 8)) else { return -2 }
    guard let iova = IOVARange(first: IOVA(long(call, 32)), byteCount: long(call, 24)) else {
      return -75
    }
    var permissions: Permissions = []
    if flags & 2 != 0 { permissions.insert(.write) }
    if flags & 4 != 0 { permissions.insert(.read) }
    let gpa = GPA(memory.gpa.first.rawValue + memoryOffset)
    do throws(ContainerError) {
      try container.map(
        MapRequest(iova: iova, gpaFirst: gpa, hvaFirst: nil, permissions: permissions))
      return 0
    } catch {
      return -error.errno
    }
  }

  func unmap(_ call: inout MutableRawSpan) -> Int32 {
    guard hasIOAS(word(call, 4)) else { return -2 }
    let (first, length) = (long(call, 8), long(call, 16))
    let range: IOVARange
    if first == 0, length == .max {
      range = .wholeSpace
    } else {
      guard first != .max, length != .max else { return -75 }
      guard let part = IOVARange(first: IOVA(first), byteCount: length) else { return -75 }
      range = part
    }
    do throws(ContainerError) {
      let bytes = try container.unmap(range)
      call.storeBytes(of: bytes, toByteOffset: 16, as: UInt64.self)
      return 0
    } catch {
      return -error.errno
    }
  }

  func setDirtyTracking(_ call: borrowing MutableRawSpan) -> Int32 {
    guard word(call, 4) & ~1 == 0, word(call, 12) == 0 else { return -95 }
    guard case .hwpt(let hwpt, _) = object(word(call, 8)) else { return -2 }
    do throws(ContainerError) {
      if word(call, 4) == 1 {
        try hwpt.start(logging: [], pageSize: .fourKiB)
      } else {
        try hwpt.stop()
      }
      return 0
    } catch {
      return -error.errno
    }
  }

  func getDirtyBitmap(_ call: borrowing MutableRawSpan) -> Int32 {
    guard word(call, 8) & ~1 == 0, word(call, 12) == 0 else { return -95 }
    guard case .hwpt(let hwpt, _) = object(word(call, 4)) else { return -2 }
    guard let window = IOVARange(first: IOVA(long(call, 16)), byteCount: long(call, 24)),
      let pageSize = PageSize(bytes: long(call, 32)), window.isAligned(to: pageSize),
      let bytes = QueryBitmap.byteCount(window: window, pageSize: pageSize)
    else { return -22 }
    do {
      var bitmap = try QueryBitmap(byteCountMax: bytes)
      try bitmap.reset(window: window, pageSize: pageSize)
      try hwpt.query(&bitmap, clear: word(call, 8) == 0)
      let address = long(call, 40)
      bitmap.forEachDirtyWord { FakeBytes.merge(word: $0, $1, at: address) }
      return 0
    } catch let error as ContainerError {
      return -error.errno
    } catch {
      return -12
    }
  }

  // MARK: of a device

  func onDevice(
    _ descriptor: Int32, _ path: String, _ request: IOMMUFDRequest, _ call: inout MutableRawSpan
  ) -> Int32 {
    let bound = state.withLock { $0.bound[descriptor] }
    switch request.number {
    case 0x3B76:
      guard word(call, 4) == 0, bound == nil else { return -22 }
      let iommufd = FakeBytes.load(call, 8, as: Int32.self)
      let hardware: Hardware? = state.withLock { state in
        state.files[iommufd] == "/dev/iommu" ? state.devices[path] : nil
      }
      guard let hardware else { return -9 }
      let id = register(.device(hardware, path))
      state.withLock { $0.bound[descriptor] = id }
      call.storeBytes(of: id, toByteOffset: 12, as: UInt32.self)
      return 0
    case 0x3B77:
      guard word(call, 4) == 0, let bound, case .device(let hardware, _) = object(bound) else {
        return -22
      }
      return attach(path, hardware, word(call, 8))
    case 0x3B78:
      guard word(call, 4) == 0, let port = state.withLock({ $0.ports.removeValue(forKey: path) })
      else { return -22 }
      container.detach(port)
      return 0
    default: return -25
    }
  }

  private func attach(_ path: String, _ hardware: Hardware, _ table: UInt32) -> Int32 {
    let port: SimulatedDevicePort
    switch object(table) {
    case .ioas: port = container.attachDevice(path)
    case .hwpt(let hwpt, let iommu):
      guard case .tracking(let own) = hardware, own == iommu else { return -22 }
      port = container.attachDevice(path, to: hwpt)
    default: return -2
    }
    state.withLock { $0.ports[path] = port }
    return 0
  }
}
