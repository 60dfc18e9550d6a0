/// What one read of a data session gave.
public enum ReadOutcome: Hashable, Sendable {
  /// The first `Int` bytes of the buffer were filled; at least 1.
  case bytes(Int)
  /// ENOMSG: nothing for now, more may come. Only in PRE_COPY and PRE_COPY_P2P.
  case temporaryEnd
  /// A read of 0 bytes: in STOP_COPY the end of the stream.
  case end
}

/// What a device says is left to read while it works (VFIO_MIG_GET_PRECOPY_INFO). Bytes.
public struct PrecopyInfo: Hashable, Sendable {
  /// Of the first pass; leave PRE_COPY preferably when this is 0.
  public let initialBytes: UInt64
  /// State that changed since it was read.
  public let dirtyBytes: UInt64
  /// VFIO_PRECOPY_INFO_REINIT: new initial data is on the stream; `initialBytes` counts it,
  /// whatever it was before, and `dirtyBytes` counts from it. Only where
  /// ``VFIOMigrationV2/enablePrecopyRestarts()`` was taken.
  public let initialDataRestarted: Bool

  public init(initialBytes: UInt64, dirtyBytes: UInt64, initialDataRestarted: Bool = false) {
    self.initialBytes = initialBytes
    self.dirtyBytes = dirtyBytes
    self.initialDataRestarted = initialDataRestarted
  }
}

/// The byte stream of a v2 device's state: what `data_fd` of VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
/// stands for. Chunk boundaries mean nothing in it. One thread uses it at a time.
public protocol DeviceDataSession: AnyObject, Sendable {
  /// Reads at most `buffer.byteCount` bytes. EINVAL outside the saving states.
  func read(into buffer: inout MutableRawSpan) throws(DeviceError) -> ReadOutcome

  /// Gives the device bytes in RESUMING and returns how many it took, at least 1 unless `bytes` is
  /// empty.
  func write(_ bytes: RawSpan) throws(DeviceError) -> Int

  /// ENOTTY where the device has no such number, EINVAL outside PRE_COPY.
  func precopyInfo() throws(DeviceError) -> PrecopyInfo

  /// Gives the session back. Called once; the device does not use it afterwards.
  func close()
}
