import CSmudgeLinux
public import DeviceMigration

/// An open device of VFIO, by group or by character device.
public final class VFIODevice: Sendable {
  public let name: String
  let descriptor: VFIODescriptor

  /// A device descriptor opened here or handed over by a VMM.
  public init(name: String, descriptor: VFIODescriptor) {
    self.name = name
    self.descriptor = descriptor
  }

  /// VFIO_DEVICE_RESET: to RUNNING from every migration state, device state lost.
  public func reset() throws(DeviceError) {
    let result = descriptor.control(.reset)
    guard result >= 0 else {
      throw refused("\(VFIORequest.reset)", result, result == -25 ? "it can not be reset" : "")
    }
  }

  // MARK: features

  enum FeatureUse: UInt32 {
    case get = 0x1_0000
    case set = 0x2_0000
  }

  /// Whether the device has a feature for that use (VFIO_DEVICE_FEATURE_PROBE).
  func hasFeature(_ feature: Int, _ use: FeatureUse) -> Bool {
    var call = smudge_vfio_feature()
    call.argsz = RequestBytes.size(smudge_vfio_feature.self)
    call.flags = UInt32(feature) | use.rawValue | UInt32(SMUDGE_VFIO_FEATURE_PROBE)
    return descriptor.control(.deviceFeature, &call) >= 0
  }

  static func envelope<Payload>(
    _ feature: Int, _ use: FeatureUse, _ type: Payload.Type
  ) -> smudge_vfio_feature {
    var header = smudge_vfio_feature()
    header.argsz = RequestBytes.size(type)
    header.flags = UInt32(feature) | use.rawValue
    return header
  }

  /// - Parameter result: what a call returned, negative.
  func refused(_ operation: String, _ result: Int32, _ detail: String = "") -> DeviceError {
    DeviceError(
      object: name, operation: operation, errno: DeviceErrno(-result), detail: detail)
  }

  // MARK: regions

  /// Regions of the device, by index.
  func regionCount() throws(DeviceError) -> Int {
    var info = smudge_vfio_device_info()
    info.argsz = RequestBytes.size(smudge_vfio_device_info.self)
    let result = descriptor.control(.getDeviceInformation, &info)
    guard result >= 0 else { throw refused("\(VFIORequest.getDeviceInformation)", result) }
    return Int(min(info.num_regions, Self.regionCountMax))
  }

  /// Far more than any device has.
  private static let regionCountMax: UInt32 = 4096

  func region(_ index: Int) throws(DeviceError) -> VFIORegion {
    let operation = "\(VFIORequest.getRegionInformation) \(index)"
    do throws(VFIOError) {
      let bytes = try InformationChain.ask(
        descriptor, .getRegionInformation,
        structureByteCount: MemoryLayout<smudge_vfio_region_info>.size, object: name
      ) { RequestBytes.store(UInt32(index), to: &$0, at: 8) }
      return try VFIORegion(bytes, device: name)
    } catch {
      throw DeviceError(
        error.errno == 0 ? .protocolBroken : .refused, object: name, operation: operation,
        errno: DeviceErrno(error.errno), detail: error.detail)
    }
  }
}
