public import DeviceMigration

extension VFIODevice {
  /// The device as a migration takes it: by the v2 interface where it has one, by the v1 region
  /// where that is all it has. A device with neither comes with the interface
  /// ``MigrationInterface/none(reason:)``, and blocks a migration by name.
  public func migratable(
    _ name: String, configuration: PCIConfiguration? = nil
  ) throws(DeviceError) -> any MigratableDevice {
    let v2 = MigratableDeviceV2(
      name: name, migration: VFIODeviceMigrationV2(device: self), configuration: configuration)
    guard case .none = v2.interface else { return v2 }
    guard let region = try VFIODeviceMigrationV1(device: self) else { return v2 }
    return MigratableDeviceV1(name: name, migration: region, configuration: configuration)
  }
}
