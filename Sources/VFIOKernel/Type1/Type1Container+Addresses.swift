public import Addressing
import CSmudgeLinux
public import DMAContainer

/// Memory that moves in this process while devices go on: a VMM that executes its own new version
/// maps the guest's memory elsewhere, and tells the kernel where.
///
/// States of a mapping:
///
///             invalidateAddresses               updateAddress
///     usable ---------------------> invalid ---------------------> usable
///                                      |  a device that would pin a page waits
///                                      '---- unmap -----> gone
extension Type1Container {
  /// VFIO_UPDATE_VADDR, Linux 5.12: false while a mediated device is attached.
  public var canUpdateAddresses: Bool {
    descriptor.control(.checkExtension, value: Int(SMUDGE_VFIO_UPDATE_VADDR)) > 0
  }

  /// VFIO_DMA_UNMAP_FLAG_VADDR: the mappings in `range` stay and pages that are pinned stay pinned,
  /// but their addresses in this process are not to be used any more. Applies wholly or throws.
  ///
  /// - Returns: bytes of IOVA whose address is invalid now.
  @discardableResult
  public func invalidateAddresses(in range: IOVARange) throws(ContainerError) -> UInt64 {
    var call = smudge_vfio_dma_unmap()
    call.argsz = RequestBytes.size(smudge_vfio_dma_unmap.self)
    call.flags = UInt32(SMUDGE_VFIO_DMA_UNMAP_VADDR)
    if range == .wholeSpace {
      call.flags |= UInt32(SMUDGE_VFIO_DMA_UNMAP_ALL)
    } else {
      guard let sound = top.without(range, alignment) else { return 0 }
      call.iova = sound.first.rawValue
      call.size = sound.lastOffset &+ 1
    }
    let result = descriptor.control(.unmapDMA, &call)
    guard result >= 0 else {
      let detail =
        switch -result {
        case ContainerErrno.einval:
          "it cuts a mapping, a mapping of it is invalid already, or the kernel is older than 5.12"
        case ContainerErrno.ebusy:
          "a mediated device is attached, which reads memory by its address"
        default: ""
        }
      throw refused(.invalidateAddresses, range, -result, detail)
    }
    return call.size
  }

  /// VFIO_DMA_MAP_FLAG_VADDR: the memory of a mapping whose address is invalid is at `hva` now. It
  /// must be the same memory; the kernel does not look.
  ///
  /// - Parameter iova: the whole mapping, as it was made.
  public func updateAddress(of iova: IOVARange, to hva: HVA) throws(ContainerError) {
    guard let byteCount = iova.byteCount else {
      throw refused(.updateAddress, iova, ContainerErrno.einval, "2^64 bytes have no 64-bit size")
    }
    var call = smudge_vfio_dma_map()
    call.argsz = RequestBytes.size(smudge_vfio_dma_map.self)
    call.flags = UInt32(SMUDGE_VFIO_DMA_MAP_VADDR)
    call.vaddr = hva.rawValue
    call.iova = iova.first.rawValue
    call.size = byteCount
    let result = descriptor.control(.mapDMA, &call)
    guard result >= 0 else {
      let detail =
        switch -result {
        case ContainerErrno.enoent: "nothing is mapped there"
        case ContainerErrno.einval:
          "it is not a whole mapping, its address is not invalid, or the memory does not begin at "
            + "a page"
        default: ""
        }
      throw refused(.updateAddress, iova, -result, detail)
    }
  }
}
