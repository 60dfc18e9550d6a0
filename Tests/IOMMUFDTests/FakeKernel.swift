import Addressing
import DMAContainer
import IOMMUFD
import Locking
import PageBitmap
import Simulation
import TestSupport

/// A kernel with one IOAS, made of the simulated one: it takes the structures apart by the offsets
/// of linux/iommufd.h, written here as numbers a second time.
final class FakeKernel: IOMMUFDCalls {
  /// What is behind a device file.
  enum Hardware: Sendable {
    case tracking(iommu: Int)
    case untracking
    case emulated
  }

  struct Call: Sendable {
    let request: IOMMUFDRequest
    let bytes: [UInt8]
  }

  enum Object { case ioas, hwpt(SimulatedHWPT, iommu: Int), device(Hardware, String) }

  struct Failure {
    var ordinal: Int
    var errno: Int32
    var only: String?
  }

  struct State: ~Copyable {
    var nextDescriptor: Int32 = 100
    var nextObject: UInt32 = 1
    var files: [Int32: String] = [:]
    var devices: [String: Hardware] = [:]
    var objects: [UInt32: Object] = [:]
    var bound: [Int32: UInt32] = [:]
    var ports: [String: SimulatedDevicePort] = [:]
    var calls: [Call] = []
    var names: [String] = []
    var failure: Failure?
    var hugePages: UInt64 = 1
    var maps: [(IOMMUFDRequest, HVA?)] = []
  }

  static let hvaFirst = HVA(0x7f00_0000_0000)
  static let memoryFile: Int32 = 77

  let memory: ContainerTestMemory
  let container: SimulatedIOMMUFD
  let validRanges: [IOVARange]
  let alignment: UInt64
  /// Linux before 6.13.
  let lacksMapFile: Bool
  let state = Mutex(State())

  init(
    validRanges: [IOVARange] = [.wholeSpace], alignment: UInt64 = 4096, lacksMapFile: Bool = false
  ) {
    memory = ContainerTestMemory()
    container = SimulatedIOMMUFD(
      memory: memory, validRanges: validRanges == [.wholeSpace] ? [] : validRanges)
    self.validRanges = validRanges
    self.alignment = alignment
    self.lacksMapFile = lacksMapFile
  }

  // MARK: what a test does to it

  func add(_ path: String, _ hardware: Hardware) {
    state.withLock { $0.devices[path] = hardware }
  }

  func fail(_ ordinal: Int, errno: Int32, only: String? = nil) {
    state.withLock { state in
      state.names = []
      state.failure = Failure(ordinal: ordinal, errno: errno, only: only)
    }
  }

  func write(_ path: String, at iova: IOVA) -> GPA? {
    state.withLock { $0.ports[path] }?.write([1, 2, 3, 4], at: iova)
  }

  var openCount: Int { state.withLock { $0.files.count } }
  var objectCount: Int { state.withLock { $0.objects.count } }
  var names: [String] { state.withLock { $0.names } }
  func lastCall(_ request: IOMMUFDRequest) -> [UInt8]? {
    state.withLock { $0.calls.last { $0.request == request }?.bytes }
  }

  // MARK: IOMMUFDCalls

  /// Counts a call, and fails it when it is its turn.
  private func failure(_ name: String) -> Int32? {
    state.withLock { state in
      guard let failure = state.failure else {
        state.names.append(name)
        return nil
      }
      if failure.only == nil || failure.only == name { state.names.append(name) }
      let isIt = failure.only == nil || failure.only == name
      return isIt && state.names.count == failure.ordinal ? -failure.errno : nil
    }
  }

  func open(_ path: String) -> Int32 {
    if let failure = failure("open") { return failure }
    return state.withLock { state in
      guard path == "/dev/iommu" || state.devices[path] != nil else { return -2 }
      state.nextDescriptor += 1
      state.files[state.nextDescriptor] = path
      return state.nextDescriptor
    }
  }

  /// Closing an iommufd destroys what is in it; closing a device unbinds it.
  func close(_ descriptor: Int32) {
    let port: SimulatedDevicePort? = state.withLock { state in
      let path = state.files.removeValue(forKey: descriptor)
      if path == "/dev/iommu" {
        state.objects = state.objects.filter { if case .device = $0.value { true } else { false } }
      }
      if let id = state.bound.removeValue(forKey: descriptor) { state.objects[id] = nil }
      return path.flatMap { state.ports.removeValue(forKey: $0) }
    }
    if let port { container.detach(port) }
  }

  func control(
    _ descriptor: Int32, _ request: IOMMUFDRequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    let bytes = FakeBytes.bytes(argument)
    state.withLock { $0.calls.append(Call(request: request, bytes: bytes)) }
    if let failure = failure(request.name) { return failure }
    guard let path = state.withLock({ $0.files[descriptor] }) else { return -9 }
    guard FakeBytes.load(argument, 0, as: UInt32.self) == UInt32(bytes.count) else { return -22 }
    return path == "/dev/iommu"
      ? onIOMMUFD(request, &argument) : onDevice(descriptor, path, request, &argument)
  }

  private func onIOMMUFD(_ request: IOMMUFDRequest, _ call: inout MutableRawSpan) -> Int32 {
    switch request.number {
    case 0x3B80: destroy(call)
    case 0x3B81: allocateIOAS(&call)
    case 0x3B84: iovaRanges(&call)
    case 0x3B85: map(call)
    case 0x3B86: unmap(&call)
    case 0x3B87: option(call)
    case 0x3B89: allocateHWPT(&call)
    case 0x3B8A: hardwareInformation(&call)
    case 0x3B8B: setDirtyTracking(call)
    case 0x3B8C: getDirtyBitmap(call)
    case 0x3B8F: lacksMapFile ? -25 : mapFile(call)
    default: -25
    }
  }

  func register(_ object: Object) -> UInt32 {
    state.withLock { state in
      state.nextObject += 1
      state.objects[state.nextObject] = object
      return state.nextObject
    }
  }

  func object(_ id: UInt32) -> Object? { state.withLock { $0.objects[id] } }
}
