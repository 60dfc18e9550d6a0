import CSmudgeLinux
import DMAContainer
import Locking

extension Type1Container {
  static let unmapAllExtension = Int(SMUDGE_VFIO_UNMAP_ALL)

  /// Opens a container, attaches a group to it and sets its IOMMU.
  /// - Parameters:
  ///   - groupPath: `/dev/vfio/` and the group's number.
  ///   - devices: what is in the group; see ``init(name:adopting:devices:)``.
  public convenience init(
    name: String, groupPath: String, devices: [Type1Device] = [],
    containerPath: String = "/dev/vfio/vfio", calls: any VFIOCalls = LinuxVFIOCalls()
  ) throws(VFIOError) {
    let container = try VFIODescriptor.open(containerPath, calls: calls)
    let object = "container \(name)"
    let version = container.control(.getAPIVersion)
    guard version == SMUDGE_VFIO_API_VERSION else {
      throw VFIOError(
        object: object, operation: "\(VFIORequest.getAPIVersion)",
        errno: version < 0 ? -version : 0,
        detail: "it speaks version \(version), not \(SMUDGE_VFIO_API_VERSION)")
    }
    let kind = Int(SMUDGE_VFIO_TYPE1V2_IOMMU)
    let hasType1 = container.control(.checkExtension, value: kind)
    guard hasType1 > 0 else {
      throw VFIOError(
        object: object, operation: "\(VFIORequest.checkExtension)",
        errno: hasType1 < 0 ? -hasType1 : 0,
        detail: "the kernel has no type1 v2 IOMMU; load vfio_iommu_type1")
    }
    let group = try Self.openGroup(groupPath, for: container)
    let result = container.control(.setIOMMU, value: kind)
    guard result >= 0 else {
      _ = group.control(.unsetContainer)
      throw VFIOError(
        object: object, operation: "\(VFIORequest.setIOMMU)", errno: -result,
        detail: result == -1
          ? "interrupts can not be remapped on this machine (allow_unsafe_interrupts)" : "")
    }
    try self.init(name: name, adopting: container, devices: devices)
    state.withLock { $0.groups[groupPath] = group }
  }

  /// Attaches one more group: its devices see what is mapped already.
  public func attach(groupPath: String, devices: [Type1Device] = []) throws(VFIOError) {
    let group = try Self.openGroup(groupPath, for: descriptor)
    state.withLock { $0.groups[groupPath] = group }
    do throws(VFIOError) {
      try attachmentChanged(to: self.devices + devices)
    } catch {
      // Without knowing what the container has become it can not be used with the group.
      _ = group.control(.unsetContainer)
      state.withLock { $0.groups[groupPath] = nil }
      throw error
    }
  }

  /// Detaches a group whose devices are closed.
  public func detach(groupPath: String, devices names: Set<String>) throws(VFIOError) {
    guard let group = state.withLock({ $0.groups[groupPath] }) else {
      throw VFIOError(
        object: "container \(name)", operation: "detach of \(groupPath)", errno: 0,
        detail: "the group was not attached here")
    }
    let result = group.control(.unsetContainer)
    guard result >= 0 else {
      throw VFIOError(
        object: groupPath, operation: "\(VFIORequest.unsetContainer)", errno: -result,
        detail: result == -16 ? "a device of the group is open" : "")
    }
    let isLast = state.withLock { state in
      state.groups[groupPath] = nil
      state.devices.removeAll { names.contains($0.name) }
      return state.groups.isEmpty
    }
    // A container without a group has no IOMMU to be asked.
    if !isLast { try attachmentChanged(to: devices) }
  }

  /// A device of an attached group.
  /// - Parameter deviceName: as the kernel names it: `0000:00:04.0`, the UUID of a mediated device.
  public func openDevice(
    _ deviceName: String, groupPath: String
  ) throws(VFIOError) -> VFIODevice {
    guard let group = state.withLock({ $0.groups[groupPath] }) else {
      throw VFIOError(
        object: "device \(deviceName)", operation: "open", errno: 0,
        detail: "\(groupPath) was not attached to container \(name)")
    }
    var bytes = Array(deviceName.utf8) + [0]
    let result = group.control(.getDevice, bytes: &bytes)
    guard result >= 0 else {
      throw VFIOError(
        object: "device \(deviceName)", operation: "\(VFIORequest.getDevice)", errno: -result,
        detail: result == -19 ? "\(groupPath) has no such device" : "")
    }
    return VFIODevice(
      name: deviceName, descriptor: VFIODescriptor(result, calls: group.calls))
  }

  private static func openGroup(
    _ path: String, for container: VFIODescriptor
  ) throws(VFIOError) -> VFIODescriptor {
    let group = try VFIODescriptor.open(path, calls: container.calls)
    var status = smudge_vfio_group_status()
    status.argsz = RequestBytes.size(smudge_vfio_group_status.self)
    let asked = group.control(.getGroupStatus, &status)
    guard asked >= 0 else {
      throw VFIOError(object: path, operation: "\(VFIORequest.getGroupStatus)", errno: -asked)
    }
    guard status.flags & UInt32(SMUDGE_VFIO_GROUP_FLAGS_VIABLE) != 0 else {
      throw VFIOError(
        object: path, operation: "\(VFIORequest.getGroupStatus)", errno: 0,
        detail: "the group is not viable: bind every device of it to a vfio driver, or to none")
    }
    var number = container.rawValue
    let attached = group.control(.setContainer, &number)
    guard attached >= 0 else {
      throw VFIOError(
        object: path, operation: "\(VFIORequest.setContainer)", errno: -attached,
        detail: attached == -22 ? "the group belongs to another container already" : "")
    }
    return group
  }
}
