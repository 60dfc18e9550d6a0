import Addressing
import CSmudgeLinux

/// What VFIO_IOMMU_GET_INFO says of a container.
struct Type1Information: Hashable, Sendable {
  /// What the container's dirty log allows; the capability is absent where there is no such log
  /// (before Linux 5.8, and behind iommufd's imitation of type1).
  struct Migration: Hashable, Sendable {
    let pageSizes: PageSizeSet
    let bitmapByteCountMax: UInt64
  }

  /// `iova_pgsizes`; 4 KiB where the kernel does not say.
  let pageSizes: PageSizeSet
  let migration: Migration?
  /// Mappings that can still be made; nil where the kernel does not say, or states no limit.
  let mappingsAvailable: Int?
  /// IOVA that may be mapped. Nil where the kernel does not say, which it does from Linux 5.4 on
  /// unless nothing is attached but mediated devices.
  let validRanges: [IOVARange]?

  /// dma_avail of iommufd's imitation, which has no limit.
  static let unlimited: UInt32 = .max

  static func ask(
    _ descriptor: VFIODescriptor, container: String
  ) throws(VFIOError) -> Type1Information {
    let bytes = try InformationChain.ask(
      descriptor, .getInformation, structureByteCount: MemoryLayout<smudge_vfio_type1_info>.size,
      object: "container \(container)")
    do throws(InformationChain.Damage) {
      return try Type1Information(bytes)
    } catch {
      throw VFIOError(
        object: "container \(container)", operation: "\(VFIORequest.getInformation)", errno: 0,
        detail: error.what)
    }
  }

  init(_ bytes: [UInt8]) throws(InformationChain.Damage) {
    guard let info = RequestBytes.load(smudge_vfio_type1_info.self, from: bytes, at: 0) else {
      throw .init(what: "\(bytes.count) bytes are too few for the structure")
    }
    let saysSizes = info.flags & UInt32(SMUDGE_VFIO_IOMMU_INFO_PGSIZES) != 0
    let sizes = PageSizeSet(mask: saysSizes ? info.iova_pgsizes : 0)
    pageSizes = sizes.smallest == nil ? PageSizeSet(.fourKiB) : sizes
    let hasChain = info.flags & UInt32(SMUDGE_VFIO_IOMMU_INFO_CAPS) != 0
    let chain = try InformationChain(
      bytes, first: hasChain ? Int(info.cap_offset) : 0,
      structureByteCount: MemoryLayout<smudge_vfio_type1_info>.size)
    migration = try Self.migration(chain)
    let avail = try chain.load(
      Int(SMUDGE_VFIO_TYPE1_CAP_DMA_AVAIL), smudge_vfio_type1_cap_dma_avail.self)?.value.avail
    mappingsAvailable = avail == Self.unlimited ? nil : avail.map { Int($0) }
    validRanges = try Self.validRanges(chain)
  }

  private static func migration(
    _ chain: InformationChain
  ) throws(InformationChain.Damage) -> Migration? {
    guard
      let capability = try chain.load(
        Int(SMUDGE_VFIO_TYPE1_CAP_MIGRATION), smudge_vfio_type1_cap_migration.self)?.value
    else { return nil }
    let sizes = PageSizeSet(mask: capability.pgsize_bitmap)
    // A log that can not be asked for one word of bits in any page size is none.
    guard sizes.smallest != nil, capability.max_dirty_bitmap_size >= 8 else { return nil }
    return Migration(
      pageSizes: sizes, bitmapByteCountMax: capability.max_dirty_bitmap_size & ~7)
  }

  private static func validRanges(
    _ chain: InformationChain
  ) throws(InformationChain.Damage) -> [IOVARange]? {
    guard
      let (fixed, offset) = try chain.load(
        Int(SMUDGE_VFIO_TYPE1_CAP_IOVA_RANGE), smudge_vfio_type1_cap_iova_range.self)
    else { return nil }
    let pairs = try chain.loadArray(
      smudge_vfio_iova_range.self, count: Int(fixed.nr_iovas),
      at: offset + MemoryLayout<smudge_vfio_type1_cap_iova_range>.size)
    var ranges: [IOVARange] = []
    for pair in pairs {
      guard pair.start <= pair.end else {
        throw .init(what: "a valid IOVA range begins at \(pair.start) and ends at \(pair.end)")
      }
      ranges.append(AddressRange(first: IOVA(pair.start), last: IOVA(pair.end)))
    }
    return ranges
  }
}
