public import Addressing
import CSmudgeLinux
public import DMAContainer
public import PageBitmap

extension Type1Container {
  /// VFIO_IOMMU_UNMAP_DMA. The whole space is VFIO_DMA_UNMAP_FLAG_ALL, or two halves where the
  /// kernel has no such flag.
  @discardableResult
  public func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    guard range == .wholeSpace else {
      guard let sound = top.without(range, alignment) else { return 0 }
      return try unmapPlainly(sound, of: range)
    }
    if hasUnmapAll {
      var call = smudge_vfio_dma_unmap()
      call.flags = UInt32(SMUDGE_VFIO_DMA_UNMAP_ALL)
      return try unmap(&call, range)
    }
    let half: UInt64 = 1 << 63
    let low = try unmapPlainly(AddressRange(first: IOVA(0), last: IOVA(half - 1)), of: range)
    let high = AddressRange(first: IOVA(half), last: IOVA(UInt64.max))
    guard let rest = top.without(high, alignment) else { return low }
    do throws(ContainerError) {
      return try low &+ unmapPlainly(rest, of: range)
    } catch {
      guard low > 0, !error.isPartial else { throw error }
      throw refused(
        .unmap, range, error.errno, "the lower half of it is gone already", isPartial: true)
    }
  }

  /// - Parameter asked: what the caller knows the range as.
  private func unmapPlainly(
    _ range: IOVARange, of asked: IOVARange
  ) throws(ContainerError) -> UInt64 {
    var call = smudge_vfio_dma_unmap()
    call.iova = range.first.rawValue
    call.size = range.lastOffset &+ 1
    return try unmap(&call, asked)
  }

  private func unmap(
    _ call: inout smudge_vfio_dma_unmap, _ range: IOVARange
  ) throws(ContainerError) -> UInt64 {
    call.argsz = RequestBytes.size(smudge_vfio_dma_unmap.self)
    let result = descriptor.control(.unmapDMA, &call)
    guard result >= 0 else {
      throw refused(
        .unmap, range, -result, Self.unmapDetail(-result),
        isPartial: Self.mayHaveUnmapped(-result))
    }
    return call.size
  }

  /// VFIO_IOMMU_UNMAP_DMA with VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP: mapping by mapping, its
  /// devices let go of their pinned pages, its bits are copied, it is removed.
  @discardableResult
  public func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    precondition(capabilities.hasAtomicUnmap, "the container has no unmap with dirty bitmap")
    guard let window = dirty.window else {
      throw refused(.unmapWithDirty, nil, ContainerErrno.einval, "no range was given")
    }
    guard let range = top.without(window, alignment) else { return 0 }
    var call = smudge_vfio_dma_unmap_dirty()
    call.unmap.argsz = RequestBytes.size(smudge_vfio_dma_unmap_dirty.self)
    call.unmap.flags = UInt32(SMUDGE_VFIO_DMA_UNMAP_GET_DIRTY_BITMAP)
    call.unmap.iova = range.first.rawValue
    call.unmap.size = range.lastOffset &+ 1
    let result = KernelBitmap.fill(&dirty) { (bitmap: smudge_vfio_bitmap) in
      call.bitmap = bitmap
      return descriptor.control(.unmapDMA, &call)
    }
    guard result >= 0 else {
      throw refused(
        .unmapWithDirty, window, -result, Self.unmapDetail(-result),
        isPartial: Self.mayHaveUnmapped(-result))
    }
    return call.unmap.size
  }

  /// Errors of checks made before anything is removed. Any other may have come half way, and the
  /// kernel does not say how far it got.
  private static func mayHaveUnmapped(_ errno: Int32) -> Bool {
    switch errno {
    case ContainerErrno.einval, ContainerErrno.eoverflow, ContainerErrno.enotty,
      ContainerErrno.enoent, ContainerErrno.e2big, ContainerErrno.eacces:
      false
    default: true
    }
  }

  private static func unmapDetail(_ errno: Int32) -> String {
    switch errno {
    case ContainerErrno.einval: "it cuts a mapping, or does not consist of whole pages"
    // iommufd's imitation of type1.
    case ContainerErrno.enoent: "it cuts a mapping"
    case ContainerErrno.eoverflow: "the range wraps"
    case ContainerErrno.ebusy: "a device holds pages of it"
    case ContainerErrno.efault:
      "the bitmap could not be written; mappings before that point are gone"
    default: ""
    }
  }
}
