import Addressing
public import CSmudge
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOMMUFD
import VFIOKernel

/// Containers, taken up and let go. Unsafe because of the caller's structs and callbacks; sound
/// because `Parameters` checks them, and descriptors are borrowed for as long as the header says.
@c @implementation
public func smudge_container_add(
  _ tracker: OpaquePointer?, _ params: UnsafePointer<smudge_container_params>?,
  _ out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_container_add") { owner, tracker throws(Failure) in
    let params = unsafe try Parameters.load(params, smudge_container_params(), "params")
    let container = unsafe try CallbackContainer(params)
    return unsafe try Containers.add(
      container, owner, tracker, flags: params.flags, ownership: .vmm, out)
  }
}

@c @implementation
public func smudge_container_add_type1(
  _ tracker: OpaquePointer?, _ params: UnsafePointer<smudge_kernel_params>?,
  _ out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_container_add_type1") { owner, tracker throws(Failure) in
    let params = unsafe try Parameters.load(params, smudge_kernel_params(), "params")
    unsafe try Containers.check(params.flags, out)
    let name = unsafe try Parameters.string(params.name, "name")
    let devices = unsafe try Containers.devices(params.devices, params.device_count)
    let container: Type1Container
    do throws(VFIOError) {
      container = try Type1Container(
        name: name, adopting: VFIODescriptor(unsafe params.fd, ownership: .borrowed),
        devices: devices.map { device in
          Type1Device(
            name: device.name, isMediated: device.isMediated,
            log: device.vfio.flatMap { DeviceDMALog(device: $0) })
        })
    } catch {
      throw Failure(error)
    }
    return unsafe try Containers.add(
      container, owner, tracker, flags: params.flags, ownership: .tracker, out)
  }
}

@c @implementation
public func smudge_container_add_iommufd(
  _ tracker: OpaquePointer?, _ params: UnsafePointer<smudge_kernel_params>?,
  _ out: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  unsafe Call.tracker(tracker, "smudge_container_add_iommufd") { owner, tracker throws(Failure) in
    let params = unsafe try Parameters.load(params, smudge_kernel_params(), "params")
    unsafe try Containers.check(params.flags, out)
    let name = unsafe try Parameters.string(params.name, "name")
    let devices = unsafe try Containers.devices(params.devices, params.device_count)
    let (fd, ioas) = unsafe (params.fd, params.ioas_plus_one)
    let container: IOMMUFDContainer
    do throws(IOMMUFDError) {
      container = try IOMMUFDContainer(
        name: name, descriptor: IOMMUFDDescriptor(fd, ownership: .borrowed),
        ioas: ioas == 0 ? nil : ioas - 1)
      for device in devices {
        guard let vfio = device.vfio else { continue }
        try container.attachDevice(
          device.name, IOMMUFDDescriptor(device.fd, ownership: .borrowed),
          log: DeviceDMALog(device: vfio))
      }
    } catch {
      throw Failure(error)
    }
    return unsafe try Containers.add(
      container, owner, tracker, flags: params.flags, ownership: .tracker, out)
  }
}

@c @implementation
public func smudge_container_remove(_ container: OpaquePointer?) -> Int32 {
  unsafe Call.container(container, "smudge_container_remove") { handle, tracker throws(Failure) in
    let result = try Failure.of { () throws(TrackerError) in
      try tracker.removeContainer(handle.id)
    }
    handle.close()
    return result
  }
}

@c @implementation
public func smudge_container_devices_changed(_ container: OpaquePointer?) -> Int32 {
  unsafe Call.container(container, "smudge_container_devices_changed") {
    handle, tracker throws(Failure) in
    try Failure.of { () throws(TrackerError) in try tracker.attachmentChanged(handle.id) }
  }
}

@c @implementation
public func smudge_container_set_address_space(
  _ container: OpaquePointer?, _ flags: UInt32
) -> Int32 {
  let function: StaticString = "smudge_container_set_address_space"
  return unsafe Call.container(container, function) { handle, tracker throws(Failure) in
    let space = try Containers.addressSpace(flags)
    return try Failure.of { () throws(TrackerError) in
      try tracker.switchAddressSpace(handle.id, to: space)
    }
  }
}

@c @implementation
public func smudge_container_get_info(
  _ container: OpaquePointer?, _ out: UnsafeMutablePointer<smudge_container_info>?
) -> Int32 {
  let function: StaticString = "smudge_container_get_info"
  return unsafe Call.container(container, function, waits: false) {
    handle, tracker throws(Failure) in
    unsafe try Parameters.check(out, smudge_container_info(), "out")
    guard let found = tracker.containers.first(where: { $0.id == handle.id }) else {
      throw Failure(TrackerError.unknownContainer(handle.id))
    }
    var info = smudge_container_info()
    info.is_logging = found.isTracking ? 1 : 0
    info.mapping_count = UInt64(found.mappingCount)
    info.mapped_page_count = found.mappedPageCount
    info.writable_page_count = found.writablePageCount
    unsafe Parameters.store(info, to: out)
    return 0
  }
}

enum Containers {
  struct Device {
    let name: String
    let isMediated: Bool
    let fd: Int32
    /// Nil where it is not to be asked.
    let vfio: VFIODevice?
  }

  static func addressSpace(_ flags: UInt32) throws(Failure) -> ContainerAddressSpace {
    try Parameters.flags(flags, known: SMUDGE_CONTAINER_IDENTITY, "flags")
    return flags & UInt32(SMUDGE_CONTAINER_IDENTITY) != 0 ? .identity : .remapped
  }

  static func add(
    _ container: any DMAContainer, _ owner: TrackerHandle, _ tracker: DirtyTracker, flags: UInt32,
    ownership: ContainerOwnership, _ out: UnsafeMutablePointer<OpaquePointer?>?
  ) throws(Failure) -> Int32 {
    let space = try addressSpace(flags)
    let out = unsafe try Parameters.required(out, "out")
    let id: ContainerID
    do throws(TrackerError) {
      id = try tracker.addContainer(container, ownership: ownership, addressSpace: space)
    } catch {
      throw Failure(error)
    }
    let handle = ContainerHandle(owner, id, isOwnedByVMM: ownership == .vmm)
    unsafe out.pointee = handle.opaque
    return 0
  }

  /// Before the kernel is asked for anything.
  static func check(
    _ flags: UInt32, _ out: UnsafeMutablePointer<OpaquePointer?>?
  ) throws(Failure) {
    _ = try addressSpace(flags)
    _ = unsafe try Parameters.required(out, "out")
  }

  static func devices(
    _ pointer: UnsafePointer<smudge_device>?, _ deviceCount: UInt32
  ) throws(Failure) -> [Device] {
    let count = Int(deviceCount)
    guard count <= Limits.deviceCountMax else {
      throw .misuse("device_count \(count) is past \(Limits.deviceCountMax)")
    }
    var devices: [Device] = []
    for index in 0..<count {
      guard let pointer = unsafe pointer else { throw .misuse("devices is null") }
      let one = unsafe try Parameters.load(pointer + index, smudge_device(), "devices")
      let name = unsafe try Parameters.string(one.name, "the name of a device")
      let fd = unsafe one.fd
      devices.append(
        Device(
          name: name, isMediated: unsafe one.is_mediated != 0, fd: fd,
          vfio: fd < 0
            ? nil : VFIODevice(name: name, descriptor: VFIODescriptor(fd, ownership: .borrowed))))
    }
    return devices
  }
}
