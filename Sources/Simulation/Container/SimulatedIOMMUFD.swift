public import Addressing
public import DMAContainer
import IOVAMapping
public import PageBitmap
import Locking

/// An iommufd IOAS with its hardware page tables (HWPTs), with the rules and error numbers of
/// drivers/iommu/iommufd, Linux 7.3. Each HWPT is a dirty log of its own.
public final class SimulatedIOMMUFD: DMAContainer {
  let iommu: SimulatedIOMMU
  private let faults: FaultPlan?
  private let validRanges: [IOVARange]
  private let pageSizes: PageSizeSet
  /// What attaching straight to an IOAS makes: a HWPT that does not track.
  private let automatic: SimulatedHWPT
  private let hwpts: Mutex<[SimulatedHWPT]>

  /// - Parameters:
  ///   - pageSizes: the smallest is the IOAS alignment.
  ///   - validRanges: IOVA that may be mapped; empty means all of it.
  ///   - recordsWrites: keep the oracle ``recordedWrites()``.
  public init(
    name: String = "iommufd", memory: any SimulatedMemory,
    pageSizes: PageSizeSet = PageSizeSet(.fourKiB), validRanges: [IOVARange] = [],
    faults: FaultPlan? = nil, recordsWrites: Bool = false
  ) {
    let iommu = SimulatedIOMMU(
      name: name, memory: memory, pageSize: pageSizes.smallest ?? .fourKiB,
      mappingCountMax: Limits.mappingCountMax, recordsWrites: recordsWrites)
    self.iommu = iommu
    self.faults = faults
    self.validRanges = validRanges
    self.pageSizes = pageSizes
    let automatic = SimulatedHWPT(
      name: "\(name) automatic HWPT", iommu: iommu, hasDirtyBits: false,
      entrySizes: PageSizeSet(iommu.pageSize), faults: faults)
    self.automatic = automatic
    self.hwpts = Mutex([automatic])
  }

  // MARK: devices

  /// IOMMU_HWPT_ALLOC.
  /// - Parameters:
  ///   - hasDirtyTracking: IOMMU_HWPT_ALLOC_DIRTY_TRACKING. False: its log is of the scope
  ///     `everythingMapped`.
  ///   - entrySizes: sizes of page table entries; each has one dirty bit, and a write to a 2 MiB
  ///     entry is reported as 2 MiB.
  ///   - losesCutEntries: a window that begins inside an entry is not even told its part.
  public func allocateHWPT(
    _ name: String, hasDirtyTracking: Bool = true,
    entrySizes: PageSizeSet = PageSizeSet(.fourKiB), losesCutEntries: Bool = false
  ) -> SimulatedHWPT {
    let hwpt = SimulatedHWPT(
      name: name, iommu: iommu, hasDirtyBits: hasDirtyTracking, entrySizes: entrySizes,
      losesCutEntries: losesCutEntries, faults: faults)
    hwpts.withLock { $0.append(hwpt) }
    return hwpt
  }

  /// Attaches a device to a HWPT of this IOAS; nil attaches straight to the IOAS, which does not
  /// track.
  /// - Parameter log: replaces the HWPT's log for this device.
  public func attachDevice(
    _ name: String, to hwpt: SimulatedHWPT? = nil, log: SimulatedDeviceLog? = nil
  ) -> SimulatedDevicePort {
    let hwpt = hwpt ?? automatic
    precondition(hwpt.iommu === iommu, "the HWPT belongs to another IOAS")
    return iommu.attach(name, domain: hwpt.domain, log: log, pins: nil)
  }

  /// The device writes no more.
  public func detach(_ port: SimulatedDevicePort) {
    iommu.state.withLock { $0.devices[port.device].domain = nil }
  }

  /// What devices really wrote, where `recordsWrites` was asked for.
  public func recordedWrites() -> Set<DeviceWrite> { iommu.state.withLock { $0.writes } }
  public func forgetWrites() { iommu.state.withLock { $0.writes = [] } }
  public var mappingCount: Int { iommu.state.withLock { $0.table.count } }

  // MARK: DMAContainer

  public var name: String { iommu.name }

  public var capabilities: ContainerCapabilities {
    ContainerCapabilities(
      pageSizes: pageSizes, bisectPolicy: .refuse, mappingCountMax: nil, validRanges: validRanges,
      hasAtomicUnmap: false)
  }

  /// The HWPTs that a device without a log of its own is attached to, then the devices' logs.
  public var dirtyLogs: [any DirtyLog] {
    let devices: [SimulatedIOMMU.Device] = iommu.state.withLock { state in
      state.devices.filter { $0.domain != nil }
    }
    let used = Set(devices.filter { $0.log == nil }.compactMap(\.domain))
    let own: [any DirtyLog] = hwpts.withLock { $0.filter { used.contains($0.domain) } }
    return own + devices.compactMap(\.log)
  }

  public func map(_ request: MapRequest) throws(ContainerError) {
    if let fault = faults?.take(.map) { throw fault.error(.map, name) }
    try iommu.state.withLock { (state: inout SimulatedIOMMU.State) throws(ContainerError) in
      try iommu.checkAlignment(of: request)
      try iommu.checkValid(request.iova, validRanges)
      if let existing = state.table.firstMapping(overlapping: request.iova) {
        throw iommu.refused(.map, request.iova, ContainerErrno.eexist, "it overlaps \(existing)")
      }
      try iommu.add(request, to: &state)
    }
  }

  @discardableResult
  public func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    let fault = faults?.take(.unmap)
    if let fault, fault.moment == .before { throw fault.error(.unmap, name) }
    return try iommu.state.withLock {
      (state: inout SimulatedIOMMU.State) throws(ContainerError) -> UInt64 in
      // iova 0 and length 2^64-1 mean everything, also nothing.
      if range != .wholeSpace {
        let enoent = ContainerErrno.enoent
        do { try state.table.canUnmap(range) } catch {
          throw iommu.refused(.unmap, range, enoent, "the range cuts a mapping")
        }
        guard state.table.firstMapping(overlapping: range) != nil else {
          throw ContainerError(
            .unmap, object: name, range: range, errno: enoent, detail: "nothing is mapped there",
            isGone: true)
        }
      }
      if let fault, fault.moment == .halfway {
        throw fault.error(.unmap, name, isPartial: state.removeHalf(of: range))
      }
      let bytes = state.removeMappings(in: range)
      if let fault { throw fault.error(.unmap, name, isPartial: true, isGone: true) }
      return bytes
    }
  }

  public func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    preconditionFailure("iommufd has no unmap with dirty bitmap")
  }
}
