/// An open descriptor. Closed when the last holder lets go of it, unless somebody else owns it.
public final class VFIODescriptor: Sendable {
  public enum Ownership: Hashable, Sendable {
    /// Closed here.
    case owned
    /// Whoever opened it closes it, later than the last use of this object.
    case borrowed
  }

  public let rawValue: Int32
  let ownership: Ownership
  let calls: any VFIOCalls

  public init(
    _ rawValue: Int32, ownership: Ownership = .owned, calls: any VFIOCalls = LinuxVFIOCalls()
  ) {
    self.rawValue = rawValue
    self.ownership = ownership
    self.calls = calls
  }

  deinit { if ownership == .owned { calls.close(rawValue) } }

  static func open(_ path: String, calls: any VFIOCalls) throws(VFIOError) -> VFIODescriptor {
    let descriptor = calls.open(path)
    guard descriptor >= 0 else {
      throw VFIOError(
        object: path, operation: "open", errno: -descriptor, detail: openDetail(-descriptor))
    }
    return VFIODescriptor(descriptor, calls: calls)
  }

  private static func openDetail(_ errno: Int32) -> String {
    switch errno {
    case 2: "there is no such file; is vfio loaded and the device bound to a vfio driver?"
    case 1, 13: "this process may not; give it the group's file"
    case 16: "it is open elsewhere, and a group can be open once only"
    case 19: "the kernel has no driver behind it; load vfio and vfio_iommu_type1"
    default: ""
    }
  }

  /// An ioctl without a structure.
  func control(_ request: VFIORequest, value: Int = 0) -> Int32 {
    calls.control(rawValue, request, value: value)
  }

  func control<Value: BitwiseCopyable>(_ request: VFIORequest, _ structure: inout Value) -> Int32 {
    calls.control(rawValue, request, structure: &structure)
  }

  func control(_ request: VFIORequest, bytes: inout [UInt8]) -> Int32 {
    RequestBytes.writing(&bytes) { calls.control(rawValue, request, &$0) }
  }
}
