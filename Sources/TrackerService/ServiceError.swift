public import VFIOUser
public import VhostUser

/// A VM cannot be served, or something of it.
public enum ServiceError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Memory that the VMM maps cannot be followed; it was not mapped.
  case memoryRefused(String)
  case companion(VhostUserError)
  case device(name: String, VFIOUserError)
  case noThread(String)

  public var description: String {
    switch self {
    case .memoryRefused(let reason):
      "guest memory was not mapped for the device: \(reason)"
    case .companion(let error): "the companion does not listen: \(error)"
    case .device(let name, let error): "device \(name) is not served: \(error)"
    case .noThread(let reason): "no thread could be started: \(reason); nothing is served"
    }
  }
}
