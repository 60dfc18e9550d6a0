import Addressing
import DMAContainer
import IOVAMapping
import PageBitmap
import Locking

/// The dirty log of a simulated type1 container (VFIO_IOMMU_DIRTY_PAGES).
final class SimulatedType1Log: DirtyLog {
  let byteCountMax: UInt64
  private let iommu: SimulatedIOMMU
  private let hasFalseTail: Bool
  private let keepsStaleBits: Bool
  private let faults: FaultPlan?

  init(
    iommu: SimulatedIOMMU, byteCountMax: UInt64, hasFalseTail: Bool, keepsStaleBits: Bool,
    faults: FaultPlan?
  ) {
    self.iommu = iommu
    self.keepsStaleBits = keepsStaleBits
    self.byteCountMax = byteCountMax
    self.hasFalseTail = hasFalseTail
    self.faults = faults
  }

  var name: String { iommu.name }

  var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: iommu.state.withLock { $0.hasUnpinnedScope } ? .everythingMapped : .pinned,
      pageSizes: PageSizeSet(iommu.pageSize), queryBitmapByteCountMax: byteCountMax,
      mayCrossHoles: true, mayCutMapping: false, canPeek: false, granule: .page)
  }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    precondition(ranges.isEmpty, "the log follows the mappings")
    let fault = faults?.take(.startLog)
    if let fault, fault.moment != .after { throw fault.error(.startLog, name) }
    try iommu.state.withLock { (state: inout SimulatedIOMMU.State) throws(ContainerError) in
      var tooLarge: IOVARange?
      state.table.forEach(in: .wholeSpace) {
        if $0.iova.pageCount(iommu.pageSize) > 0x7fff_ffff { tooLarge = $0.iova }
      }
      if let tooLarge {
        throw iommu.refused(
          .startLog, tooLarge, ContainerErrno.einval, "a mapping is too large to track")
      }
      // A second start does nothing; it does not clear.
      guard !state.domains[0].isTracking else { return }
      state.domains[0].isTracking = true
      state.markPinned(in: 0...UInt64.max >> 12)
    }
    if let fault { throw fault.error(.startLog, name) }
  }

  func stop() throws(ContainerError) {
    let fault = faults?.take(.stopLog)
    if let fault, fault.moment != .after { throw fault.error(.stopLog, name) }
    iommu.state.withLock {
      $0.domains[0].isTracking = false
      $0.domains[0].dirty.removeAll()
      $0.staleBits.removeAll()
    }
    if let fault { throw fault.error(.stopLog, name) }
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    precondition(clear, "type1 reads and clears in one")
    let fault = faults?.take(.query)
    if let fault, fault.moment == .before { throw fault.error(.query, name) }
    guard let window = bitmap.window else {
      throw iommu.refused(.query, nil, ContainerErrno.einval, "no range was given")
    }
    try iommu.state.withLock { (state: inout SimulatedIOMMU.State) throws(ContainerError) in
      try check(.query, window, bitmap, state)
      do { try state.table.canUnmap(window) } catch {
        throw iommu.refused(.query, window, ContainerErrno.einval, "the window cuts a mapping")
      }
      var mapped: [IOVARange] = []
      state.table.forEach(in: window) { mapped.append($0.iova) }
      // The kernel goes mapping by mapping: what it reported before it failed is cleared.
      if fault?.moment == .halfway { mapped.removeLast((mapped.count + 1) / 2) }
      for range in mapped {
        if fault?.moment != .after { report(&state, range, into: &bitmap) }
        state.domains[0].dirty.remove(SimulatedIOMMU.pages(range))
        state.markPinned(in: SimulatedIOMMU.pages(range))
      }
    }
    if let fault { throw fault.error(.query, name) }
  }

  /// The rules of a bitmap (verify_bitmap_size and the page size).
  func check(
    _ operation: ContainerError.Operation, _ window: IOVARange, _ bitmap: borrowing QueryBitmap,
    _ state: borrowing SimulatedIOMMU.State
  ) throws(ContainerError) {
    let einval = ContainerErrno.einval
    guard state.domains[0].isTracking else {
      throw iommu.refused(operation, window, einval, "dirty tracking is off")
    }
    guard bitmap.pageSize == iommu.pageSize else {
      throw iommu.refused(operation, window, einval, "the page size is not \(iommu.pageSize)")
    }
    guard UInt64(bitmap.byteCount) <= byteCountMax else {
      throw iommu.refused(
        operation, window, einval,
        "a bitmap of \(bitmap.byteCount) bytes, of at most \(byteCountMax)")
    }
  }

  /// ORs what is dirty in `range`, which cuts no mapping.
  func report(
    _ state: inout SimulatedIOMMU.State, _ range: IOVARange, into bitmap: inout QueryBitmap
  ) {
    if keepsStaleBits { return reportWithStaleBits(&state, range, into: &bitmap) }
    let everything = state.hasUnpinnedScope
    if everything {
      state.table.forEach(in: range) { bitmap.insert($0.iova) }
    } else {
      state.domains[0].dirty.forEachRun(in: SimulatedIOMMU.pages(range)) {
        bitmap.insert(SimulatedIOMMU.range($0))
      }
    }
    guard hasFalseTail, let window = bitmap.window else { return }
    // Up to the end of the 64-bit word of the answer, where no mapping follows.
    let wordMask = iommu.pageSize.bytes * 64 - 1
    state.table.forEach(in: range) { mapping in
      guard bitmap.contains(mapping.iova.last), mapping.iova.last < window.last else { return }
      let offset = mapping.iova.last.rawValue - window.first.rawValue
      let first = IOVA(mapping.iova.last.rawValue + 1)
      let (last, overflow) = window.first.rawValue.addingReportingOverflow(offset | wordMask)
      let end = overflow ? window.last : min(IOVA(last), window.last)
      guard first <= end else { return }
      let tail = AddressRange(first: first, last: end)
      if state.table.firstMapping(overlapping: tail) == nil { bitmap.insert(tail) }
    }
  }
}

extension SimulatedType1Log {
  /// As the kernel's update_user_bitmap does, with what it reports too much.
  private func reportWithStaleBits(
    _ state: inout SimulatedIOMMU.State, _ range: IOVARange, into bitmap: inout QueryBitmap
  ) {
    guard let window = bitmap.window else { return }
    var mapped: [IOVARange] = []
    state.table.forEach(in: range) { mapped.append($0.iova) }
    for part in mapped {
      let pages = SimulatedIOMMU.pages(part)
      var dirty: [ClosedRange<UInt64>] = []
      if state.hasUnpinnedScope {
        dirty = [pages]
      } else {
        state.domains[0].dirty.forEachRun(in: pages) { dirty.append($0) }
      }
      let firstBit = pages.lowerBound - (window.first.rawValue >> 12)
      var stale = state.staleBits[pages.lowerBound] ?? StaleBits()
      stale.report(pages, dirty: dirty, firstBit: firstBit, into: &bitmap)
      state.staleBits[pages.lowerBound] = stale
    }
  }
}

extension SimulatedIOMMU.State {
  /// Pages still pinned are dirty again after every read.
  mutating func markPinned(in pages: ClosedRange<UInt64>) {
    guard domains[0].isTracking else { return }
    for index in devices.indices where devices[index].domain != nil {
      var runs: [ClosedRange<UInt64>] = []
      devices[index].pins?.pages.forEachRun(in: pages) { runs.append($0) }
      for run in runs { domains[0].dirty.insert(run) }
    }
  }
}
