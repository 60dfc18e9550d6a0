public import Addressing
public import DMAContainer
import IOVAMapping
public import PageBitmap
import Locking

/// A type1 container (v2) with the rules, limits and error numbers of
/// drivers/vfio/vfio_iommu_type1.c, Linux 7.3.
///
/// Its own log knows pinned pages while only mediated devices are attached; one device behind the
/// IOMMU, with a log of its own or not, makes it report every mapping whole in every read.
public final class SimulatedType1: DMAContainer {
  let iommu: SimulatedIOMMU
  private let ownLog: SimulatedType1Log
  private let faults: FaultPlan?
  private let validRanges: [IOVARange]
  private let pageSizes: PageSizeSet

  /// - Parameters:
  ///   - dmaEntryLimit: the module parameter dma_entry_limit.
  ///   - validRanges: IOVA that may be mapped; empty means all of it.
  ///   - queryBitmapByteCountMax: DIRTY_BITMAP_SIZE_MAX, smaller to test chunks.
  ///   - reportsFalseTailBits: reads show bits past a mapping's last page, as the kernel's can.
  ///   - keepsStaleBits: reads go through bitmaps that are shifted in place, as the kernel's: what
  ///   it
  ///     reports too much, page by page, is reported too much here.
  ///   - recordsWrites: keep the oracle ``recordedWrites()``.
  public init(
    name: String = "type1", memory: any SimulatedMemory, dmaEntryLimit: Int = 65_535,
    pageSizes: PageSizeSet = PageSizeSet(.fourKiB), validRanges: [IOVARange] = [],
    queryBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax,
    reportsFalseTailBits: Bool = false, keepsStaleBits: Bool = false, faults: FaultPlan? = nil,
    recordsWrites: Bool = false
  ) {
    let pageSize = pageSizes.smallest ?? .fourKiB
    let iommu = SimulatedIOMMU(
      name: name, memory: memory, pageSize: pageSize, mappingCountMax: dmaEntryLimit,
      recordsWrites: recordsWrites)
    iommu.state.withLock {
      $0.domains = [.init(hasDirtyBits: false, entrySizes: PageSizeSet(pageSize))]
    }
    self.iommu = iommu
    self.faults = faults
    self.validRanges = validRanges
    self.pageSizes = pageSizes
    self.ownLog = SimulatedType1Log(
      iommu: iommu, byteCountMax: queryBitmapByteCountMax, hasFalseTail: reportsFalseTailBits,
      keepsStaleBits: keepsStaleBits, faults: faults)
  }

  // MARK: devices

  /// Attaches a device behind the IOMMU (plain vfio-pci).
  public func attachDevice(
    _ name: String, log: SimulatedDeviceLog? = nil
  ) -> SimulatedDevicePort {
    iommu.attach(name, domain: 0, log: log, pins: nil)
  }

  /// Attaches a mediated device: it writes pinned pages only.
  /// - Parameters:
  ///   - pinsOnDemand: it pins what it is about to write and keeps it pinned; otherwise it writes
  ///     only what ``SimulatedDevicePort/pin(_:)`` has pinned.
  ///   - pinnedPageCountMax: pinning on demand, it unpins the oldest page beyond so many.
  public func attachMediatedDevice(
    _ name: String, pinsOnDemand: Bool = true, pinnedPageCountMax: Int? = nil
  ) -> SimulatedDevicePort {
    iommu.attach(
      name, domain: 0, log: nil,
      pins: PinnedPages(onDemand: pinsOnDemand, countMax: pinnedPageCountMax))
  }

  /// The device writes no more. When the last one of no pinned scope goes while tracking is on,
  /// every mapping is dirty once.
  public func detach(_ port: SimulatedDevicePort) {
    iommu.state.withLock { (state: inout SimulatedIOMMU.State) in
      let wasEverything = state.hasUnpinnedScope
      state.devices[port.device].domain = nil
      state.devices[port.device].pins?.remove(0...UInt64.max >> 12)
      guard wasEverything, !state.hasUnpinnedScope, state.domains[0].isTracking else { return }
      var mapped: [IOVARange] = []
      state.table.forEach(in: .wholeSpace) { mapped.append($0.iova) }
      for range in mapped { state.domains[0].dirty.insert(SimulatedIOMMU.pages(range)) }
    }
  }

  /// What devices really wrote, where `recordsWrites` was asked for.
  public func recordedWrites() -> Set<DeviceWrite> { iommu.state.withLock { $0.writes } }
  public func forgetWrites() { iommu.state.withLock { $0.writes = [] } }
  public var mappingCount: Int { iommu.state.withLock { $0.table.count } }

  // MARK: DMAContainer

  public var name: String { iommu.name }

  public var capabilities: ContainerCapabilities {
    ContainerCapabilities(
      pageSizes: pageSizes, bisectPolicy: .refuse,
      mappingCountMax: iommu.state.withLock { $0.table.mappingCountMax }, validRanges: validRanges,
      hasAtomicUnmap: usesOwnLog, unmapBitmapByteCountMax: ownLog.byteCountMax)
  }

  /// False when every device logs by itself.
  private var usesOwnLog: Bool {
    iommu.state.withLock { state in
      state.devices.contains { $0.domain != nil && $0.log == nil }
    }
  }

  public var dirtyLogs: [any DirtyLog] {
    let own: [any DirtyLog] = usesOwnLog ? [ownLog] : []
    let devices: [any DirtyLog] = iommu.state.withLock { state in
      state.devices.compactMap { $0.domain == nil ? nil : $0.log }
    }
    return own + devices
  }

  public func map(_ request: MapRequest) throws(ContainerError) {
    if let fault = faults?.take(.map) { throw fault.error(.map, name) }
    try iommu.state.withLock { (state: inout SimulatedIOMMU.State) throws(ContainerError) in
      try iommu.checkAlignment(of: request)
      if let existing = state.table.firstMapping(overlapping: request.iova) {
        throw iommu.refused(.map, request.iova, ContainerErrno.eexist, "it overlaps \(existing)")
      }
      guard state.table.count < state.table.mappingCountMax else {
        throw iommu.refused(.map, request.iova, ContainerErrno.enospc, "dma_avail is 0")
      }
      try iommu.checkValid(request.iova, validRanges)
      if state.domains[0].isTracking, request.iova.pageCount(iommu.pageSize) > 0x7fff_ffff {
        throw iommu.refused(.map, request.iova, ContainerErrno.einval, "too large to track")
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
      // The whole space is VFIO_DMA_UNMAP_FLAG_ALL.
      if range != .wholeSpace { try checkUnmap(.unmap, range, state) }
      if let fault, fault.moment == .halfway {
        throw fault.error(.unmap, name, isPartial: state.removeHalf(of: range))
      }
      let bytes = state.removeMappings(in: range)
      if let fault { throw fault.error(.unmap, name, isPartial: true, isGone: true) }
      return bytes
    }
  }

  @discardableResult
  public func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    precondition(capabilities.hasAtomicUnmap, "every device of the container logs by itself")
    let operation = ContainerError.Operation.unmapWithDirty
    let fault = faults?.take(operation)
    if let fault, fault.moment == .before { throw fault.error(operation, name) }
    guard let window = dirty.window else {
      throw iommu.refused(operation, nil, ContainerErrno.einval, "no range was given")
    }
    return try iommu.state.withLock {
      (state: inout SimulatedIOMMU.State) throws(ContainerError) -> UInt64 in
      try ownLog.check(operation, window, dirty, state)
      try checkUnmap(operation, window, state)
      if let fault, fault.moment == .halfway {
        throw fault.error(operation, name, isPartial: state.removeHalf(of: window))
      }
      if fault == nil { ownLog.report(&state, window, into: &dirty) }
      let bytes = state.removeMappings(in: window)
      if let fault { throw fault.error(operation, name, isPartial: true, isGone: true) }
      return bytes
    }
  }

  private func checkUnmap(
    _ operation: ContainerError.Operation, _ range: IOVARange,
    _ state: borrowing SimulatedIOMMU.State
  ) throws(ContainerError) {
    guard range.isAligned(to: iommu.pageSize), range != .wholeSpace else {
      throw iommu.refused(operation, range, ContainerErrno.einval, "not whole pages")
    }
    do { try state.table.canUnmap(range) } catch {
      throw iommu.refused(operation, range, ContainerErrno.einval, "the range cuts a mapping")
    }
  }
}

extension SimulatedIOMMU.State {
  /// A group that is not of pinned scope is attached.
  var hasUnpinnedScope: Bool { devices.contains { $0.domain != nil && $0.pins == nil } }
}
