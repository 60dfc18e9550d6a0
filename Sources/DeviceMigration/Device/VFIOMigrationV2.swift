/// The v2 migration interface of one device: the VFIO_DEVICE_FEATURE envelope of `linux/vfio.h`, or
/// the same over vfio-user. Calls block until the device is done. One thread uses it at a time.
public protocol VFIOMigrationV2: AnyObject, Sendable {
  /// GET of VFIO_DEVICE_FEATURE_MIGRATION. ENOTTY: the device does not migrate.
  func migrationFeatures() throws(DeviceError) -> MigrationFeatures

  /// GET of VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE.
  func state() throws(DeviceError) -> DeviceState

  /// SET of VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: walks the arcs to `state` and returns when it is
  /// there. A session only when the last arc opens one (``SessionEffect/opens``). After a failure
  /// the device may be in the old state, any state on the path, or ERROR.
  func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)?

  /// GET of VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: an estimate in bytes of what STOP_COPY will give.
  /// ENOTTY before Linux 6.2 and over vfio-user.
  func stopCopyByteCount() throws(DeviceError) -> UInt64

  /// SET of VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 (Linux 2026-07): from now on
  /// ``PrecopyInfo/initialDataRestarted`` means something, and initial bytes may rise again.
  /// - Returns: false where the device has no such feature.
  func enablePrecopyRestarts() throws(DeviceError) -> Bool

  /// VFIO_DEVICE_RESET: to RUNNING from every state, device state lost.
  func reset() throws(DeviceError)
}

extension VFIOMigrationV2 {
  public func enablePrecopyRestarts() throws(DeviceError) -> Bool { false }
}
