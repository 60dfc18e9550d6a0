/// An open descriptor of an iommufd or of a device. Closed when the last holder lets go of it,
/// unless somebody else owns it.
public final class IOMMUFDDescriptor: Sendable {
  public enum Ownership: Hashable, Sendable {
    /// Closed here.
    case owned
    /// Whoever opened it closes it, later than the last use of this object.
    case borrowed
  }

  public let rawValue: Int32
  let ownership: Ownership
  let calls: any IOMMUFDCalls

  public init(
    _ rawValue: Int32, ownership: Ownership = .owned,
    calls: any IOMMUFDCalls = LinuxIOMMUFDCalls()
  ) {
    self.rawValue = rawValue
    self.ownership = ownership
    self.calls = calls
  }

  deinit { if ownership == .owned { calls.close(rawValue) } }

  public static func open(
    _ path: String, calls: any IOMMUFDCalls = LinuxIOMMUFDCalls()
  ) throws(IOMMUFDError) -> IOMMUFDDescriptor {
    let descriptor = calls.open(path)
    guard descriptor >= 0 else {
      throw IOMMUFDError(
        object: path, operation: "open", errno: -descriptor, detail: openDetail(-descriptor))
    }
    return IOMMUFDDescriptor(descriptor, calls: calls)
  }

  private static func openDetail(_ errno: Int32) -> String {
    switch errno {
    case IOMMUFDErrno.enoent:
      "there is no such file; the kernel needs CONFIG_IOMMUFD, and for a device "
        + "CONFIG_VFIO_DEVICE_CDEV and a vfio driver bound to it"
    case IOMMUFDErrno.eperm, 13: "this process may not; give it the file"
    case IOMMUFDErrno.ebusy: "it is open by another user, or by way of its group"
    default: ""
    }
  }

  /// An ioctl with a structure.
  /// - Returns: what the kernel does: 0, or an errno, negative.
  func control<Value: BitwiseCopyable>(_ request: IOMMUFDRequest, _ structure: inout Value) -> Int32
  {
    RequestBytes.writing(&structure) { calls.control(rawValue, request, &$0) }
  }
}
