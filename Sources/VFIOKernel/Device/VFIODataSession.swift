import CSmudgeLinux
import DeviceMigration
import Locking

/// The data descriptor of a migration: `data_fd` of VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE.
final class VFIODataSession: DeviceDataSession {
  private let device: String
  /// Nil once closed.
  private let descriptor: Mutex<VFIODescriptor?>

  init(device: String, descriptor: VFIODescriptor) {
    self.device = device
    self.descriptor = Mutex(descriptor)
  }

  /// A read of 0 bytes and ENOMSG are told apart: a driver may answer either where nothing is left
  /// for now, and the state the device is in decides what it means.
  func read(into buffer: inout MutableRawSpan) throws(DeviceError) -> ReadOutcome {
    let descriptor = try open("read")
    if buffer.byteCount == 0 { throw broken("read", "no room was given") }
    let count = descriptor.calls.read(descriptor.rawValue, into: &buffer)
    switch count {
    case 1...buffer.byteCount: return .bytes(count)
    case 0: return .end
    case -Int(DeviceErrno.enomsg.rawValue): return .temporaryEnd
    case ..<0: throw refused("read", count)
    default: throw broken("read", "\(count) bytes came of \(buffer.byteCount) asked for")
    }
  }

  func write(_ bytes: RawSpan) throws(DeviceError) -> Int {
    if bytes.isEmpty { return 0 }
    let descriptor = try open("write")
    let count = descriptor.calls.write(descriptor.rawValue, bytes)
    switch count {
    case 1...bytes.byteCount: return count
    case ..<0: throw refused("write", count)
    default: throw broken("write", "\(count) bytes were taken of \(bytes.byteCount)")
    }
  }

  func precopyInfo() throws(DeviceError) -> PrecopyInfo {
    let descriptor = try open("GET_PRECOPY_INFO")
    var call = smudge_vfio_precopy_info()
    call.argsz = RequestBytes.size(smudge_vfio_precopy_info.self)
    let result = descriptor.control(.getPrecopyInformation, &call)
    guard result >= 0 else { throw refused("GET_PRECOPY_INFO", Int(result)) }
    return PrecopyInfo(
      initialBytes: call.initial_bytes, dirtyBytes: call.dirty_bytes,
      initialDataRestarted: call.flags & UInt32(SMUDGE_VFIO_PRECOPY_INFO_REINIT) != 0)
  }

  func close() { descriptor.withLock { $0 = nil } }

  private func open(_ operation: String) throws(DeviceError) -> VFIODescriptor {
    guard let descriptor = descriptor.withLock({ $0 }) else {
      throw DeviceError(
        object: device, operation: operation, errno: .ebadf, detail: "the session is closed")
    }
    return descriptor
  }

  private func refused(_ operation: String, _ result: Int) -> DeviceError {
    DeviceError(
      object: device, operation: operation,
      errno: DeviceErrno(Int32(truncatingIfNeeded: -result)))
  }

  private func broken(_ operation: String, _ detail: String) -> DeviceError {
    DeviceError(.protocolBroken, object: device, operation: operation, detail: detail)
  }
}
