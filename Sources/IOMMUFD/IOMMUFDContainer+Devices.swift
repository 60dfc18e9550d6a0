public import DMAContainer
import Locking

extension IOMMUFDContainer {
  /// Opens a device, binds it to the iommufd and attaches it.
  /// - Parameters:
  ///   - path: its character device: `/dev/vfio/devices/vfio0`.
  ///   - log: the device's own log of its writes, instead of the IOMMU's.
  @discardableResult
  public func attachDevice(
    _ name: String, path: String, log: (any DirtyLog)? = nil
  ) throws(IOMMUFDError) -> IOMMUFDDevice {
    try attachDevice(name, .open(path, calls: descriptor.calls), log: log)
  }

  /// Binds and attaches a device whose file was opened elsewhere.
  /// - Parameter log: the device's own log of its writes, instead of the IOMMU's. Asked for once it
  ///   is attached: a device that is not bound says of itself nothing.
  @discardableResult
  public func attachDevice(
    _ name: String, _ device: IOMMUFDDescriptor, log: @autoclosure () -> (any DirtyLog)? = nil
  ) throws(IOMMUFDError) -> IOMMUFDDevice {
    let id = try device.bind(to: descriptor, for: name)
    let found = try attach(name, device, id)
    let attached = IOMMUFDDevice(name: name, id: id, log: log() ?? found, descriptor: device)
    do throws(IOMMUFDError) {
      try take(attached)
    } catch {
      try? device.detach(for: name)
      dropUnusedHWPTs()
      throw error
    }
    return attached
  }

  /// A device that the VMM has bound and attached by itself.
  /// - Parameters:
  ///   - hwpt: what it is attached to, from ``allocateHWPT(_:device:)`` or
  ///     ``adoptHWPT(_:id:)``; nil when attached to the IOAS or a HWPT that does not track.
  ///   - log: the device's own log of its writes, instead of the IOMMU's.
  @discardableResult
  public func addDevice(
    _ name: String, id: UInt32, hwpt: HWPTDirtyLog?, log: (any DirtyLog)? = nil
  ) throws(IOMMUFDError) -> IOMMUFDDevice {
    let found = log ?? hwpt ?? untracked(name, because: "it is attached to no HWPT that tracks")
    let device = IOMMUFDDevice(name: name, id: id, log: found, descriptor: nil)
    try take(device)
    return device
  }

  /// A HWPT with dirty tracking for a device that is bound; the VMM attaches the device to it.
  /// - Throws: EOPNOTSUPP when the IOMMU has no dirty bits.
  public func allocateHWPT(_ name: String, device: UInt32) throws(IOMMUFDError) -> HWPTDirtyLog {
    try allocateHWPT(name, device: device, isAutomatic: false)
  }

  private func allocateHWPT(
    _ name: String, device: UInt32, isAutomatic: Bool
  ) throws(IOMMUFDError) -> HWPTDirtyLog {
    let id = try descriptor.allocateTrackingHWPT(device: device, ioas: ioas, for: name)
    let log = HWPTDirtyLog(
      name: name, id: id, iommufd: descriptor, hasSmallEntries: hasSmallEntries)
    state.withLock { $0.hwpts.append(HWPT(log: log, isAutomatic: isAutomatic)) }
    return log
  }

  /// A HWPT of this IOAS that the VMM has allocated with dirty tracking, and destroys.
  public func adoptHWPT(_ name: String, id: UInt32) -> HWPTDirtyLog {
    HWPTDirtyLog(name: name, id: id, iommufd: descriptor, hasSmallEntries: hasSmallEntries)
  }

  /// The device writes no more. One that the VMM attached it has detached already.
  /// - Throws: when the kernel refuses; the device is still attached.
  public func detachDevice(_ device: IOMMUFDDevice) throws(IOMMUFDError) {
    try device.descriptor?.detach(for: device.name)
    state.withLock { state in state.devices.removeAll { $0 === device } }
    dropUnusedHWPTs()
    refreshCapabilities()
  }

  // MARK: the steps of an attach

  /// To a tracking HWPT where there can be one, or to the IOAS.
  private func attach(
    _ name: String, _ device: IOMMUFDDescriptor, _ id: UInt32
  ) throws(IOMMUFDError) -> any DirtyLog {
    let reason: String
    do throws(IOMMUFDError) {
      let hasDirtyBits = try descriptor.hasDirtyBits(device: id, for: name)
      if hasDirtyBits, let log = try attachToTracking(name, device, id) { return log }
      reason = "its IOMMU has no dirty bits"
    } catch  where error.operation == IOMMUFDRequest.hardwareInformation.name {
      // An emulated device is an access object, of which no hardware is known.
      reason =
        error.errno == IOMMUFDErrno.enoent
        ? "an emulated device, whose writes no IOMMU sees" : "of its IOMMU nothing is known"
    }
    try device.attach(to: ioas, for: name)
    return untracked(name, because: reason)
  }

  /// - Returns: nil when the IOMMU has no dirty bits after all.
  private func attachToTracking(
    _ name: String, _ device: IOMMUFDDescriptor, _ id: UInt32
  ) throws(IOMMUFDError) -> HWPTDirtyLog? {
    for hwpt in state.withLock({ $0.hwpts.map(\.log) }) {
      do throws(IOMMUFDError) {
        try device.attach(to: hwpt.id, for: name)
        return hwpt
      } catch  where error.errno == IOMMUFDErrno.einval {
        continue  // of another IOMMU
      }
    }
    let hwpt: HWPTDirtyLog
    do throws(IOMMUFDError) {
      hwpt = try allocateHWPT("\(name) HWPT", device: id, isAutomatic: true)
    } catch  where error.errno == IOMMUFDErrno.eopnotsupp {
      return nil
    }
    do throws(IOMMUFDError) {
      try device.attach(to: hwpt.id, for: name)
    } catch {
      dropUnusedHWPTs()
      throw error
    }
    return hwpt
  }

  private func untracked(_ name: String, because reason: String) -> UntrackedLog {
    UntrackedLog(device: name, because: reason)
  }

  /// Takes up an attached device: its reserved regions may have narrowed what can be mapped.
  private func take(_ device: IOMMUFDDevice) throws(IOMMUFDError) {
    let capabilities = try Self.capabilities(descriptor, ioas, name)
    state.withLock { state in
      state.capabilities = capabilities
      state.devices.append(device)
      if device.log is UntrackedLog {
        state.notes.append("\(device.log.name); all of it counts as written")
      }
    }
  }

  /// After a detach; what the kernel said before stays true, if narrower than need be.
  private func refreshCapabilities() {
    guard let capabilities = try? Self.capabilities(descriptor, ioas, name) else { return }
    state.withLock { $0.capabilities = capabilities }
  }

  /// Those made by an attach; a HWPT the VMM asked for stays.
  private func dropUnusedHWPTs() {
    let unused = state.withLock { state in
      let used = state.devices.map(\.log)
      let unused = state.hwpts.filter { hwpt in
        hwpt.isAutomatic && !used.contains { $0 === hwpt.log }
      }
      state.hwpts.removeAll { hwpt in unused.contains { $0.log === hwpt.log } }
      return unused
    }
    for hwpt in unused { descriptor.destroy(hwpt.log.id) }
  }
}
