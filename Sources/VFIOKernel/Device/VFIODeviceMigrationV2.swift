import CSmudgeLinux
public import DeviceMigration

/// The v2 migration interface of a device by its descriptor: features 1, 2, 9 and 12 of
/// VFIO_DEVICE_FEATURE.
public final class VFIODeviceMigrationV2: VFIOMigrationV2 {
  private let device: VFIODevice

  public init(device: VFIODevice) { self.device = device }

  public func migrationFeatures() throws(DeviceError) -> MigrationFeatures {
    var call = smudge_vfio_feature_migration()
    call.feature = VFIODevice.envelope(
      Int(SMUDGE_VFIO_FEATURE_MIGRATION), .get, smudge_vfio_feature_migration.self)
    let result = device.descriptor.control(.deviceFeature, &call)
    guard result >= 0 else { throw device.refused("GET MIGRATION", result) }
    return MigrationFeatures(rawValue: call.flags)
  }

  public func state() throws(DeviceError) -> DeviceState {
    var call = smudge_vfio_feature_state()
    call.feature = VFIODevice.envelope(
      Int(SMUDGE_VFIO_FEATURE_MIG_DEVICE_STATE), .get, smudge_vfio_feature_state.self)
    call.data_fd = -1
    let result = device.descriptor.control(.deviceFeature, &call)
    guard result >= 0 else { throw device.refused("GET MIG_DEVICE_STATE", result) }
    guard let state = DeviceState(rawValue: call.device_state) else {
      throw DeviceError(
        .protocolBroken, object: device.name, operation: "GET MIG_DEVICE_STATE",
        detail: "\(call.device_state) is not a state")
    }
    return state
  }

  public func setState(_ state: DeviceState) throws(DeviceError) -> (any DeviceDataSession)? {
    var call = smudge_vfio_feature_state()
    call.feature = VFIODevice.envelope(
      Int(SMUDGE_VFIO_FEATURE_MIG_DEVICE_STATE), .set, smudge_vfio_feature_state.self)
    call.device_state = state.rawValue
    call.data_fd = -1
    let result = device.descriptor.control(.deviceFeature, &call)
    guard result >= 0 else { throw device.refused("SET \(state)", result) }
    guard call.data_fd >= 0 else { return nil }
    return VFIODataSession(
      device: device.name,
      descriptor: VFIODescriptor(call.data_fd, calls: device.descriptor.calls))
  }

  public func stopCopyByteCount() throws(DeviceError) -> UInt64 {
    var call = smudge_vfio_feature_data_size()
    call.feature = VFIODevice.envelope(
      Int(SMUDGE_VFIO_FEATURE_MIG_DATA_SIZE), .get, smudge_vfio_feature_data_size.self)
    let result = device.descriptor.control(.deviceFeature, &call)
    guard result >= 0 else { throw device.refused("GET MIG_DATA_SIZE", result) }
    return call.stop_copy_length
  }

  public func enablePrecopyRestarts() throws(DeviceError) -> Bool {
    var call = VFIODevice.envelope(
      Int(SMUDGE_VFIO_FEATURE_MIG_PRECOPY_INFO_V2), .set, smudge_vfio_feature.self)
    let result = device.descriptor.control(.deviceFeature, &call)
    // ENOTTY before the kernel had it, EINVAL from a device without PRE_COPY.
    if result == -DeviceErrno.enotty.rawValue || result == -DeviceErrno.einval.rawValue {
      return false
    }
    guard result >= 0 else { throw device.refused("SET MIG_PRECOPY_INFOv2", result) }
    return true
  }

  public func reset() throws(DeviceError) { try device.reset() }
}
