import Addressing

/// The simulated guest could not be made, or not be restored.
public enum GuestError: Error, Hashable, Sendable, CustomStringConvertible {
  /// A system call on guest memory was refused; no guest was made.
  case memory(operation: String, byteCount: UInt64, errno: Int32)
  /// A thread could not be started; nothing runs.
  case thread(name: String, errno: Int32)
  /// Bytes that are not the state of this virtual CPU; it is as it was.
  case vcpuState(writer: UInt64, reason: String)

  public var description: String {
    switch self {
    case .memory(let operation, let byteCount, let errno):
      "guest RAM of \(byteCount) bytes: \(operation) failed with \(ErrorNumber.name(errno)); "
        + "no guest was made"
    case .thread(let name, let errno):
      "thread \(name): pthread_create failed with \(ErrorNumber.name(errno)); it does not run"
    case .vcpuState(let writer, let reason):
      "vCPU \(writer): its state was not restored: \(reason)"
    }
  }
}
