public import Addressing
public import DeviceMigration
public import GuestDirtyLog

/// The memory of a simulated guest: one memfd, mapped three times.
///
/// Terms:
/// - **vCPU mapping**: what vCPUs write through, and what a CPU tracker watches.
/// - **device mapping**: what devices write through. The CPU tracker cannot see these writes.
/// - **migration mapping**: what a migration reads, or on the destination writes.
///
/// Invariants:
/// 1. A write through one mapping is in the memory all three show.
/// 2. Only vCPU writes touch the vCPU mapping: neither devices, nor a migration, nor a comparison
///    disturb what is tracked there.
/// 3. Each write is in the ledger, if there is one, before it returns.
public final class GuestRAM: SimulatedMemory, GuestMemory {
  public let layout: GuestLayout
  /// As a tracker is told of them; `hvaFirst` is in the vCPU mapping.
  public let ramRegions: [RAMRegion]
  /// Regions whose node this machine does not have; their memory is placed anywhere.
  public let misplacedRegions: [String]
  /// The ground truth of who wrote what, where a run keeps one.
  public let ledger: WriteLedger?

  private let vcpuMapping: MemoryMapping
  private let deviceMapping: MemoryMapping
  private let migrationMapping: MemoryMapping

  /// - Throws: `GuestError.memory` when memfd_create or mmap are refused.
  public init(
    layout: GuestLayout, name: String = "smudge-guest", ledger: WriteLedger? = nil
  ) throws(GuestError) {
    let file = try MemoryFile(name: name, byteCount: layout.byteCount)
    let vcpuMapping = try MemoryMapping(of: file)
    self.layout = layout
    self.ledger = ledger
    self.vcpuMapping = vcpuMapping
    deviceMapping = try MemoryMapping(of: file)
    migrationMapping = try MemoryMapping(of: file)
    var misplaced: [String] = []
    for region in layout.regions {
      guard let node = region.node else { continue }
      let byteCount = region.pageCount &* 4096
      let offset = region.firstPage &* 4096
      // A node's policy on shared memory belongs to the file, so one mapping sets it for all.
      if !vcpuMapping.prefer(node: node, atOffset: offset, byteCount: byteCount) {
        misplaced.append(region.name)
      }
    }
    misplacedRegions = misplaced
    ramRegions = layout.regions.map { region in
      RAMRegion(
        name: region.name, gpa: region.gpa,
        hvaFirst: vcpuMapping.hvaFirst.advanced(byBytes: region.firstPage &* 4096),
        node: region.node)
    }
  }

  // MARK: devices

  public func write(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard let range = range(gpa, bytes.byteCount), let offset = layout.offset(of: range) else {
      return bytes.byteCount == 0
    }
    deviceMapping.store(bytes, atOffset: offset)
    ledger?.record(range, by: .device)
    return true
  }

  public func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool {
    guard let range = range(gpa, buffer.byteCount), let offset = layout.offset(of: range) else {
      return buffer.byteCount == 0
    }
    deviceMapping.load(into: &buffer, atOffset: offset)
    return true
  }

  // MARK: vCPUs

  /// Writes as a vCPU does: the CPU tracker sees it.
  /// - Returns: false, and writes nothing, when the bytes do not lie in one RAM region.
  public func writeAsVCPU(_ bytes: RawSpan, at gpa: GPA) -> Bool {
    guard let range = range(gpa, bytes.byteCount), let offset = layout.offset(of: range) else {
      return bytes.byteCount == 0
    }
    vcpuMapping.store(bytes, atOffset: offset)
    ledger?.record(range, by: .vcpu)
    return true
  }

  /// - Returns: false when the bytes do not lie in one RAM region.
  public func readAsVCPU(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool {
    guard let range = range(gpa, buffer.byteCount), let offset = layout.offset(of: range) else {
      return buffer.byteCount == 0
    }
    vcpuMapping.load(into: &buffer, atOffset: offset)
    return true
  }

  // MARK: migration

  public func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard let offset = layout.offset(of: range) else { return nil }
    return try migrationMapping.withBytes(
      atOffset: offset, count: Int(range.lastOffset) + 1, body)
  }

  public func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard let offset = layout.offset(of: range) else { return nil }
    return try migrationMapping.withMutableBytes(
      atOffset: offset, count: Int(range.lastOffset) + 1, body)
  }

  /// Fills every second MiB with noise, as a loader of the VMM does before vCPUs run: in no ledger,
  /// and unseen by who watches vCPUs.
  public func fill(seed: UInt64) {
    var random = SplitMix64(seed: seed).derived(for: 0xf1_11)
    let stretch: UInt64 = 256
    for first in stride(from: 0, to: layout.pageCount, by: Int(2 * stretch)) {
      let end = min(first &+ stretch, layout.region(ofPage: first).endPage)
      let byteCount = Int(end &- first) * 4096
      migrationMapping.withMutableBytes(atOffset: first &* 4096, count: byteCount) { bytes in
        for offset in stride(from: 0, to: byteCount, by: 8) {
          bytes.storeBytes(of: random.next(), toByteOffset: offset, as: UInt64.self)
        }
      }
    }
  }

  // MARK: verdict

  /// The header of the write a page holds; nil when it holds none, or lies outside RAM.
  public func header(ofPage page: UInt64) -> PageHeader? {
    guard page < layout.pageCount else { return nil }
    return migrationMapping.withBytes(
      atOffset: page &* 4096, count: PageHeader.byteCount, PageHeader.init(decoding:))
  }

  /// One digest for each page, by page number; 0 for a page of zeroes. Two processes that send each
  /// other these know what differs.
  public func pageDigests() -> [UInt64] {
    migrationMapping.digests(atOffset: 0, pageCount: layout.pageCount)
  }

  /// What differs from another guest's pages.
  public func compare(with digests: [UInt64]) -> PageComparison {
    PageComparison(layout: layout, ours: pageDigests(), theirs: digests)
  }

  private func range(_ gpa: GPA, _ byteCount: Int) -> GPARange? {
    GPARange(first: gpa, byteCount: UInt64(byteCount))
  }
}
