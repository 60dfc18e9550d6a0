/// How a simulated device is built and what it does that others do not.
public struct SimulatedDeviceOptions: Hashable, Sendable {
  /// Pages of 4 KiB in the device's own memory.
  public var pageCount: Int
  /// Answers a read in PRE_COPY that has nothing with 0 bytes instead of ENOMSG, as mtty of the
  /// kernel's samples does.
  public var endsInsteadOfTemporaryEnd: Bool
  /// Has VFIO_DEVICE_FEATURE_MIG_DATA_SIZE (Linux 6.2).
  public var saysDataSize: Bool
  /// Takes and gives at most this many bytes a call, so that a caller has to go on.
  public var byteCountPerCall: Int
  /// Has VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 (Linux 2026-07), where it has PRE_COPY.
  public var knowsPrecopyRestarts: Bool

  public init(
    pageCount: Int = 64, endsInsteadOfTemporaryEnd: Bool = false, saysDataSize: Bool = true,
    byteCountPerCall: Int = 1 << 20, knowsPrecopyRestarts: Bool = true
  ) {
    precondition(pageCount > 0 && byteCountPerCall > 0, "a device has memory and takes bytes")
    self.pageCount = pageCount
    self.endsInsteadOfTemporaryEnd = endsInsteadOfTemporaryEnd
    self.saysDataSize = saysDataSize
    self.byteCountPerCall = byteCountPerCall
    self.knowsPrecopyRestarts = knowsPrecopyRestarts
  }
}
