import Addressing
import DMAContainer
import IOVAMapping
import Locking

/// The translation of one container as it stands, and the dirty bits of its domains. What the
/// simulated type1 container and the simulated IOAS share.
///
/// Terms:
/// - **Domain**: one set of page tables with one set of dirty bits. type1 has one, an IOAS one for
///   each HWPT; all show the same mappings.
///
/// Invariants:
/// 1. Translation, memory write and mark are one step under one lock, which map, unmap and query
///    take too: a write is seen by the log of the mapping it went through, or did not happen.
/// 2. Dirty bits and pins exist for mapped pages only.
/// 3. Dirty pages are marked after memory is written: a reader that takes the mark sees the bytes.
final class SimulatedIOMMU: Sendable {
  struct Device {
    let name: String
    /// Nil after detach.
    var domain: Int?
    let log: SimulatedDeviceLog?
    /// Nil for a device the IOMMU translates for: it may write whatever is mapped.
    var pins: PinnedPages?
  }

  struct Domain {
    var isTracking = false
    var hasDirtyBits: Bool
    /// Sizes a page table entry may have: one dirty bit an entry.
    var entrySizes: PageSizeSet
    var dirty = PageSet()
  }

  struct State: ~Copyable {
    var table: MappingTable
    var devices: [Device] = []
    var domains: [Domain] = []
    var writes: Set<DeviceWrite> = []
    /// What type1 leaves in its bitmaps past the last page of a mapping, by the mapping's first
    /// page; empty unless it is asked to do as the kernel does to the bit.
    var staleBits: [UInt64: StaleBits] = [:]
  }

  let name: String
  let memory: any SimulatedMemory
  let pageSize: PageSize
  let recordsWrites: Bool
  let state: Mutex<State>

  init(
    name: String, memory: any SimulatedMemory, pageSize: PageSize, mappingCountMax: Int,
    recordsWrites: Bool
  ) {
    self.name = name
    self.memory = memory
    self.pageSize = pageSize
    self.recordsWrites = recordsWrites
    let table = MappingTable(
      policy: .refuse, pageSize: pageSize, mappingCountMax: mappingCountMax, retiredCountMax: 0)
    self.state = Mutex(State(table: table))
  }

  func attach(
    _ name: String, domain: Int, log: SimulatedDeviceLog?, pins: PinnedPages?
  ) -> SimulatedDevicePort {
    state.withLock { state in
      state.devices.append(Device(name: name, domain: domain, log: log, pins: pins))
      return SimulatedDevicePort(name: name, iommu: self, device: state.devices.count - 1)
    }
  }

  /// Pages of 4 KiB.
  static func pages(_ range: IOVARange) -> ClosedRange<UInt64> {
    range.first.rawValue >> 12...range.last.rawValue >> 12
  }

  static func range(_ pages: ClosedRange<UInt64>) -> IOVARange {
    AddressRange(first: IOVA(pages.lowerBound << 12), last: IOVA(pages.upperBound << 12 | 0xfff))
  }
}

extension SimulatedIOMMU.State {
  /// The pieces of an access, each inside one mapping; nil where one is not allowed.
  func pieces(_ range: IOVARange, for wanted: Permissions) -> [(mapping: Mapping, part: IOVARange)]?
  {
    var pieces: [(Mapping, IOVARange)] = []
    var from = range.first
    while let mapping = table.lookup(from), mapping.permissions.contains(wanted) {
      let part = AddressRange(first: from, last: min(mapping.iova.last, range.last))
      pieces.append((mapping, part))
      if part.last == range.last { return pieces }
      from = IOVA(part.last.rawValue + 1)
    }
    return nil
  }

  /// Makes the pages of a write pinned where the device pins on demand.
  /// - Returns: false when a page is not pinned and does not become so.
  mutating func mayWrite(_ device: Int, _ range: IOVARange) -> Bool {
    guard let pins = devices[device].pins else { return true }
    let pages = SimulatedIOMMU.pages(range)
    if pins.onDemand {
      for page in pages { pin(page, device) }
      return true
    }
    return pages.allSatisfy { pins.pages.contains($0) }
  }

  mutating func pin(_ page: UInt64, _ device: Int) {
    guard let domain = devices[device].domain else { return }
    devices[device].pins?.insert(page)
    if domains[domain].isTracking { domains[domain].dirty.insert(page...page) }
  }

  /// Marks a write in every log that sees it.
  mutating func mark(_ device: Int, _ mapping: Mapping, _ part: IOVARange) {
    devices[device].log?.record(part)
    guard let index = devices[device].domain, domains[index].isTracking,
      domains[index].hasDirtyBits
    else { return }
    var from = part.first
    while true {
      let entry = entry(holding: from, of: mapping, sizes: domains[index].entrySizes)
      domains[index].dirty.insert(SimulatedIOMMU.pages(entry))
      guard entry.last < part.last else { return }
      from = IOVA(entry.last.rawValue + 1)
    }
  }

  /// The page table entry that translates `address`: the largest that lies wholly in the mapping
  /// and is aligned on both sides.
  func entry(holding address: IOVA, of mapping: Mapping, sizes: PageSizeSet) -> IOVARange {
    let shift = mapping.gpaFirst.rawValue &- mapping.iova.first.rawValue
    for bit in stride(from: UInt64(62), through: 13, by: -1) where sizes.mask & (1 << bit) != 0 {
      let mask: UInt64 = (1 << bit) - 1
      guard shift & mask == 0 else { continue }
      let entry = AddressRange(
        first: IOVA(address.rawValue & ~mask), last: IOVA(address.rawValue | mask))
      if mapping.iova.contains(entry) { return entry }
    }
    return AddressRange(
      first: address.roundedDown(to: .fourKiB), last: address.lastOfPage(.fourKiB))
  }

  mutating func removeAllTraces(of range: IOVARange) {
    let pages = SimulatedIOMMU.pages(range)
    for index in domains.indices { domains[index].dirty.remove(pages) }
    for index in devices.indices { devices[index].pins?.remove(pages) }
    if !staleBits.isEmpty { staleBits = staleBits.filter { !pages.contains($0.key) } }
  }

  /// Removes what is mapped in `range`, which cuts no mapping.
  /// - Returns: bytes.
  mutating func removeMappings(in range: IOVARange) -> UInt64 {
    var bytes: UInt64 = 0
    var removed: [IOVARange] = []
    // The caller has asked canUnmap.
    _ = try? table.unmap(range) { removed.append($0.iova) }
    for part in removed {
      bytes &+= part.lastOffset &+ 1
      removeAllTraces(of: part)
    }
    return bytes
  }

  /// Removes the first half of the mappings in `range`, as a call that fails on its way does.
  mutating func removeHalf(of range: IOVARange) -> Bool {
    var parts: [IOVARange] = []
    table.forEach(in: range) { parts.append($0.iova) }
    for part in parts.prefix(parts.count / 2) { _ = removeMappings(in: part) }
    return parts.count > 1
  }
}
