import CSmudgeLinux

/// A piece of a device, as VFIO_DEVICE_GET_REGION_INFO describes it.
struct VFIORegion: Hashable, Sendable {
  /// A part that can be mapped. Offset from the start of the region.
  struct Area: Hashable, Sendable {
    let offset: UInt64
    let byteCount: UInt64
    var end: UInt64 { offset &+ byteCount }
  }

  let byteCount: UInt64
  /// In the device's descriptor.
  let offset: UInt64
  let isReadable: Bool
  let isWritable: Bool
  /// `type` and `subtype` of a region that is neither a BAR nor the configuration.
  let type: UInt32?
  let subtype: UInt32?
  /// Sorted, not overlapping, inside the region.
  let mappableAreas: [Area]

  var isV1Migration: Bool {
    type == UInt32(SMUDGE_VFIO_REGION_TYPE_MIGRATION)
      && subtype == UInt32(SMUDGE_VFIO_REGION_SUBTYPE_MIGRATION)
  }

  init(_ bytes: [UInt8], device: String) throws(VFIOError) {
    do throws(InformationChain.Damage) {
      try self.init(bytes)
    } catch {
      throw VFIOError(
        object: device, operation: "\(VFIORequest.getRegionInformation)", errno: 0,
        detail: error.what)
    }
  }

  init(_ bytes: [UInt8]) throws(InformationChain.Damage) {
    guard let info = RequestBytes.load(smudge_vfio_region_info.self, from: bytes, at: 0) else {
      throw .init(what: "\(bytes.count) bytes are too few for the structure")
    }
    guard info.offset.addingReportingOverflow(info.size).partialValue <= UInt64(Int64.max),
      info.offset <= UInt64(Int64.max), info.size <= UInt64(Int64.max)
    else { throw .init(what: "the region lies outside of what a file can have") }
    byteCount = info.size
    offset = info.offset
    isReadable = info.flags & UInt32(SMUDGE_VFIO_REGION_READ) != 0
    isWritable = info.flags & UInt32(SMUDGE_VFIO_REGION_WRITE) != 0
    let hasChain = info.flags & UInt32(SMUDGE_VFIO_REGION_CAPS) != 0
    let chain = try InformationChain(
      bytes, first: hasChain ? Int(info.cap_offset) : 0,
      structureByteCount: MemoryLayout<smudge_vfio_region_info>.size)
    let kind = try chain.load(
      Int(SMUDGE_VFIO_REGION_CAP_TYPE), smudge_vfio_region_cap_type.self)?.value
    type = kind?.type
    subtype = kind?.subtype
    let canMap = info.flags & UInt32(SMUDGE_VFIO_REGION_MMAP) != 0
    mappableAreas = canMap ? try Self.areas(chain, byteCount: info.size) : []
  }

  /// The areas of the sparse capability; the whole region without one.
  private static func areas(
    _ chain: InformationChain, byteCount: UInt64
  ) throws(InformationChain.Damage) -> [Area] {
    guard
      let (fixed, offset) = try chain.load(
        Int(SMUDGE_VFIO_REGION_CAP_SPARSE_MMAP), smudge_vfio_region_cap_sparse_mmap.self)
    else { return byteCount > 0 ? [Area(offset: 0, byteCount: byteCount)] : [] }
    let raw = try chain.loadArray(
      smudge_vfio_region_area.self, count: Int(fixed.nr_areas),
      at: offset + MemoryLayout<smudge_vfio_region_cap_sparse_mmap>.size)
    var areas: [Area] = []
    for area in raw.sorted(by: { $0.offset < $1.offset }) where area.size > 0 {
      let (end, overflow) = area.offset.addingReportingOverflow(area.size)
      guard !overflow, end <= byteCount, area.offset >= areas.last?.end ?? 0 else {
        throw .init(
          what: "an area at \(area.offset) of \(area.size) bytes overlaps, or leaves the region")
      }
      areas.append(Area(offset: area.offset, byteCount: area.size))
    }
    return areas
  }
}
