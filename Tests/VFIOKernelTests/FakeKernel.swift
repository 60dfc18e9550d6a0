import Addressing
import DeviceMigration
import Locking
import Simulation
import VFIOKernel

/// The kernel's side of the seam, in this process: it takes requests apart by the offsets of the
/// kernel's headers, applies the kernel's rules for argsz, flags and sizes, and hands what is left
/// to the simulated containers and devices.
///
/// Any call can be made to fail, before it has any effect or after all of it.
final class FakeKernel: VFIOCalls {
  enum Moment: CaseIterable { case before, after }

  struct Fault {
    /// Counted from 1 over all calls; closing and unmapping can not fail and are not counted.
    var ordinal: Int
    var errno: Int32
    var moment: Moment
  }

  struct Call: Hashable {
    let name: String
    let descriptor: Int32
    /// The argument as it came in; of a write, what was written.
    let argument: [UInt8]
  }

  enum Object {
    case container(FakeContainer)
    case group(String)
    case device(FakeDevice)
    case session(any DeviceDataSession)
  }

  struct Group {
    var devices: [String: FakeDevice] = [:]
    var isViable = true
    var container: FakeContainer?
    var isOpen = false
  }

  struct State {
    var objects: [Int32: Object] = [:]
    var nextDescriptor: Int32 = 100
    var groups: [String: Group] = [:]
    var calls: [Call] = []
    var fault: Fault?
    var mappedCount = 0
  }

  let container: FakeContainer
  let state: Mutex<State>

  init(container: FakeContainer, groups: [String: Group] = [:]) {
    self.container = container
    self.state = Mutex(State(groups: groups))
  }

  var calls: [Call] { state.withLock { $0.calls } }
  /// Of one ioctl.
  func calls(_ request: VFIORequest) -> [Call] { calls.filter { $0.name == request.description } }
  var openDescriptorCount: Int { state.withLock { $0.objects.count } }
  var mappedCount: Int { state.withLock { $0.mappedCount } }

  /// Forgets the calls so far and plans a fault for one to come.
  func plan(_ fault: Fault?) {
    state.withLock {
      $0.calls = []
      $0.fault = fault
    }
  }

  func add(_ object: Object) -> Int32 {
    state.withLock { state in
      state.nextDescriptor += 1
      state.objects[state.nextDescriptor] = object
      return state.nextDescriptor
    }
  }

  private func object(_ descriptor: Int32) -> Object? {
    state.withLock { $0.objects[descriptor] }
  }

  /// Counts a call and gives it its effect, unless a fault is planned for it.
  private func call(
    _ name: String, _ descriptor: Int32, _ argument: [UInt8] = [], _ effect: () -> Int
  ) -> Int {
    let fault = state.withLock { state -> Fault? in
      state.calls.append(Call(name: name, descriptor: descriptor, argument: argument))
      return state.fault?.ordinal == state.calls.count ? state.fault : nil
    }
    guard let fault else { return effect() }
    // A map that fails is undone, whenever it fails.
    if fault.moment == .after, name != "\(VFIORequest.mapDMA)" {
      let before = state.withLock { Set($0.objects.keys) }
      _ = effect()
      // A descriptor that was made and can not be told of does not stay.
      for made in state.withLock({ Set($0.objects.keys) }).subtracting(before) { close(made) }
    }
    return -Int(fault.errno)
  }

  // MARK: VFIOCalls

  func open(_ path: String) -> Int32 {
    Int32(
      call("open", -1, Array(path.utf8)) {
        if path == "/dev/vfio/vfio" { return Int(add(.container(container))) }
        guard let group = state.withLock({ $0.groups[path] }) else { return -2 }
        if group.isOpen { return -16 }
        state.withLock { $0.groups[path]?.isOpen = true }
        return Int(add(.group(path)))
      })
  }

  func close(_ descriptor: Int32) {
    let object = state.withLock { $0.objects.removeValue(forKey: descriptor) }
    if case .group(let path) = object {
      state.withLock {
        $0.groups[path]?.container = nil
        $0.groups[path]?.isOpen = false
      }
    }
    if case .session(let session) = object { session.close() }
    precondition(object != nil, "descriptor \(descriptor) is closed twice")
  }

  func control(_ descriptor: Int32, _ request: VFIORequest, value: Int) -> Int32 {
    Int32(
      call("\(request)", descriptor) {
        switch object(descriptor) {
        case .container(let container): Int(container.control(request, value: value))
        case .group(let path): Int(controlGroup(path, request))
        case .device(let device): Int(device.control(request))
        case .session, nil: -25
        }
      })
  }

  func control(
    _ descriptor: Int32, _ request: VFIORequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    var bytes = Bytes(FakeMemory.bytes(argument))
    let result = call("\(request)", descriptor, bytes.bytes) {
      switch object(descriptor) {
      case .container(let container): Int(container.control(request, &bytes))
      case .group(let path): Int(controlGroup(path, request, &bytes))
      case .device(let device): Int(device.control(request, &bytes, self))
      case .session(let session): Int(Self.precopyInformation(session, request, &bytes))
      case nil: -9
      }
    }
    if result >= 0 { FakeMemory.store(bytes.bytes, to: &argument) }
    return Int32(result)
  }

  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan) -> Int {
    var answer: [UInt8] = []
    let room = buffer.byteCount
    let result = call("read", descriptor) {
      guard case .session(let session) = object(descriptor) else { return -9 }
      answer = [UInt8](repeating: 0, count: room)
      do throws(DeviceError) {
        let outcome = try DeviceBytes.writing(&answer, first: room) { (span) throws(DeviceError) in
          try session.read(into: &span)
        }
        switch outcome {
        case .bytes(let count): return count
        case .temporaryEnd: return -42
        case .end: return 0
        }
      } catch {
        return -Int(error.errno.rawValue)
      }
    }
    if result > 0 { FakeMemory.store(Array(answer.prefix(result)), to: &buffer) }
    return result
  }

  func write(_ descriptor: Int32, _ bytes: RawSpan) -> Int {
    call("write", descriptor, FakeMemory.bytes(bytes)) {
      guard case .session(let session) = object(descriptor) else { return -9 }
      do throws(DeviceError) {
        return try session.write(bytes)
      } catch {
        return -Int(error.errno.rawValue)
      }
    }
  }

  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan, at offset: UInt64) -> Int {
    var answer: [UInt8] = []
    let room = buffer.byteCount
    let result = call("pread \(offset & 0xff_ffff_ffff)", descriptor) {
      guard case .device(let device) = object(descriptor) else { return -9 }
      switch device.read(room, at: offset) {
      case .success(let bytes):
        answer = bytes
        return bytes.count
      case .failure(let failure): return -Int(failure.errno)
      }
    }
    FakeMemory.store(answer, to: &buffer)
    return result
  }

  func write(_ descriptor: Int32, _ bytes: RawSpan, at offset: UInt64) -> Int {
    let copy = FakeMemory.bytes(bytes)
    return call("pwrite \(offset & 0xff_ffff_ffff)", descriptor, copy) {
      guard case .device(let device) = object(descriptor) else { return -9 }
      return device.write(copy, at: offset)
    }
  }

  func map(_ descriptor: Int32, offset: UInt64, byteCount: UInt64) -> Int {
    call("mmap", descriptor) {
      guard case .device(let device) = object(descriptor) else { return -9 }
      let address = device.map(offset: offset, byteCount: byteCount)
      if address > 0 { state.withLock { $0.mappedCount += 1 } }
      return address
    }
  }

  func unmap(address: UInt64, byteCount: UInt64) { state.withLock { $0.mappedCount -= 1 } }

  private static func precopyInformation(
    _ session: any DeviceDataSession, _ request: VFIORequest, _ bytes: inout Bytes
  ) -> Int32 {
    guard request.number == 0x3B79 else { return -25 }
    guard bytes.u32(0) >= 24 else { return -22 }
    do throws(DeviceError) {
      let info = try session.precopyInfo()
      bytes.store((info.initialDataRestarted ? 1 : 0) as UInt32, 4)
      bytes.store(info.initialBytes, 8)
      bytes.store(info.dirtyBytes, 16)
      return 0
    } catch {
      return -error.errno.rawValue
    }
  }

  // MARK: groups

  private func controlGroup(_ path: String, _ request: VFIORequest) -> Int32 {
    guard request == .unsetContainer else { return -25 }
    return state.withLock { state in
      guard state.groups[path]?.container != nil else { return -22 }
      state.groups[path]?.container = nil
      return 0
    }
  }

  private func controlGroup(
    _ path: String, _ request: VFIORequest, _ bytes: inout Bytes
  ) -> Int32 {
    guard let group = state.withLock({ $0.groups[path] }) else { return -19 }
    switch request {
    case .getGroupStatus:
      guard bytes.u32(0) >= 8 else { return -22 }
      bytes.store((group.isViable ? 1 : 0) as UInt32, 4)
      return 0
    case .setContainer:
      guard case .container(let container)? = object(bytes.load(Int32.self, 0)) else { return -9 }
      guard group.container == nil else { return -22 }
      state.withLock { $0.groups[path]?.container = container }
      return 0
    case .getDevice:
      guard group.container != nil, bytes.bytes.last == 0 else { return -22 }
      let name = String(decoding: bytes.bytes.dropLast(), as: UTF8.self)
      guard let device = group.devices[name] else { return -19 }
      return add(.device(device))
    default: return -25
    }
  }
}
