public import Addressing
public import DMAContainer
import IOVAMapping
public import PageBitmap
import Locking

/// One hardware page table of a simulated IOAS, with its dirty bits
/// (IOMMU_HWPT_SET_DIRTY_TRACKING, IOMMU_HWPT_GET_DIRTY_BITMAP).
///
/// A query walks until the first hole and then ends without an error, cleared and reported up to
/// there; nor does it say when tracking is off. A window that begins inside a huge entry is told
/// its part of it, and the bit of the whole entry is cleared, as Linux 7.2 does in the lab; older
/// walkers may lose the part too.
public final class SimulatedHWPT: DirtyLog {
  public let name: String
  public let capabilities: DirtyLogCapabilities
  let iommu: SimulatedIOMMU
  let domain: Int
  private let hasDirtyBits: Bool
  private let losesCutEntries: Bool
  private let faults: FaultPlan?

  init(
    name: String, iommu: SimulatedIOMMU, hasDirtyBits: Bool, entrySizes: PageSizeSet,
    losesCutEntries: Bool = false, faults: FaultPlan?
  ) {
    self.name = name
    self.iommu = iommu
    self.hasDirtyBits = hasDirtyBits
    self.losesCutEntries = losesCutEntries
    self.faults = faults
    self.domain = iommu.state.withLock { state in
      state.domains.append(.init(hasDirtyBits: hasDirtyBits, entrySizes: entrySizes))
      return state.domains.count - 1
    }
    self.capabilities =
      hasDirtyBits
      ? DirtyLogCapabilities(
        scope: .iommuHardware, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: false,
        // A window that begins or ends at a page then cuts no entry.
        mayCutMapping: entrySizes == PageSizeSet(.fourKiB), canPeek: true, granule: .page)
      // Answered from the mappings, without a call.
      : DirtyLogCapabilities(
        scope: .everythingMapped, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: true,
        mayCutMapping: false, canPeek: true, granule: .page)
  }

  public func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    precondition(ranges.isEmpty, "the log follows the mappings")
    try set(tracking: true, .startLog)
  }

  public func stop() throws(ContainerError) { try set(tracking: false, .stopLog) }

  /// IOMMU_HWPT_SET_DIRTY_TRACKING: enabling begins from clean, each time.
  private func set(
    tracking: Bool, _ operation: ContainerError.Operation
  ) throws(ContainerError) {
    let fault = faults?.take(operation)
    if let fault, fault.moment != .after { throw fault.error(operation, name) }
    iommu.state.withLock {
      $0.domains[domain].isTracking = tracking
      $0.domains[domain].dirty.removeAll()
    }
    if let fault { throw fault.error(operation, name) }
  }

  public func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    let fault = faults?.take(.query)
    if let fault, fault.moment == .before { throw fault.error(.query, name) }
    guard let window = bitmap.window, window.isAligned(to: iommu.pageSize) else {
      throw ContainerError(
        .query, object: name, range: bitmap.window, errno: ContainerErrno.einval,
        detail: "not whole pages of the IOAS")
    }
    guard window != .wholeSpace else {
      throw ContainerError(
        .query, object: name, range: window, errno: ContainerErrno.eoverflow,
        detail: "the length has no 64-bit value")
    }
    iommu.state.withLock { (state: inout SimulatedIOMMU.State) in
      guard hasDirtyBits else {
        if fault == nil { state.table.forEach(in: window) { bitmap.insert($0.iova) } }
        return
      }
      guard var walked = state.walked(from: window) else { return }
      if fault?.moment == .halfway {
        let middle = walked.first.rawValue + walked.lastOffset / 2
        walked = AddressRange(first: walked.first, last: IOVA(middle).lastOfPage(.fourKiB))
      }
      let entries = state.entries(around: walked, domain)
      let isCut = losesCutEntries && entries.first < walked.first
      let reported = isCut ? state.withoutFirst(walked, domain) : walked
      if fault?.moment != .after, let reported {
        state.domains[domain].dirty.forEachRun(in: SimulatedIOMMU.pages(reported)) {
          bitmap.insert(SimulatedIOMMU.range($0))
        }
      }
      if clear { state.domains[domain].dirty.remove(SimulatedIOMMU.pages(entries)) }
    }
    if let fault { throw fault.error(.query, name) }
  }
}

extension SimulatedIOMMU.State {
  /// What a walk of the window reaches: the mapped run that begins at its first address.
  func walked(from window: IOVARange) -> IOVARange? {
    guard let first = table.lookup(window.first) else { return nil }
    var reached = first.iova
    table.forEach(in: window) { mapping in
      if reached.isFollowed(by: mapping.iova) {
        reached = AddressRange(first: reached.first, last: mapping.iova.last)
      }
    }
    return reached.intersection(window)
  }

  /// `range` with the whole of the page table entries at its ends.
  func entries(around range: IOVARange, _ domain: Int) -> IOVARange {
    let sizes = domains[domain].entrySizes
    guard let first = table.lookup(range.first), let last = table.lookup(range.last) else {
      return range
    }
    return AddressRange(
      first: min(range.first, entry(holding: range.first, of: first, sizes: sizes).first),
      last: max(range.last, entry(holding: range.last, of: last, sizes: sizes).last))
  }

  /// `range` without the entry it begins inside; nil when nothing is left.
  func withoutFirst(_ range: IOVARange, _ domain: Int) -> IOVARange? {
    guard let mapping = table.lookup(range.first) else { return nil }
    let entry = entry(holding: range.first, of: mapping, sizes: domains[domain].entrySizes)
    guard entry.last < range.last else { return nil }
    return AddressRange(first: IOVA(entry.last.rawValue + 1), last: range.last)
  }
}
