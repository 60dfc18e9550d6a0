import Addressing
import CSmudgeLinux
public import DMAContainer
import Locking

extension Type1Container {
  /// VFIO_IOMMU_MAP_DMA: pins the memory at `hvaFirst`, which this process must see.
  public func map(_ request: MapRequest) throws(ContainerError) {
    guard let hva = request.hvaFirst else {
      throw refused(
        .map, request.iova, 0,
        "GPA \(request.gpaFirst) is not mapped in this process, and the "
          + "kernel pins memory by its address here")
    }
    guard let byteCount = request.iova.byteCount else {
      throw refused(.map, request.iova, ContainerErrno.einval, "2^64 bytes have no 64-bit size")
    }
    if request.iova.last.rawValue == UInt64.max, !top.isSound(alignment) {
      throw refused(
        .map, request.iova, ContainerErrno.eoverflow,
        "this kernel can map the last page of the address space and never unmap it, so it was not "
          + "asked to")
    }
    var call = smudge_vfio_dma_map()
    call.argsz = RequestBytes.size(smudge_vfio_dma_map.self)
    if request.permissions.contains(.read) { call.flags |= UInt32(SMUDGE_VFIO_DMA_MAP_READ) }
    if request.permissions.contains(.write) { call.flags |= UInt32(SMUDGE_VFIO_DMA_MAP_WRITE) }
    call.vaddr = hva.rawValue
    call.iova = request.iova.first.rawValue
    call.size = byteCount
    let result = descriptor.control(.mapDMA, &call)
    guard result >= 0 else {
      throw refused(.map, request.iova, -result, mapDetail(-result, request))
    }
    if state.withLock({ $0.allowance.mapped() }) { watchAllowance() }
  }

  /// Asks how many mappings are left, and announces it when they are few.
  private func watchAllowance() {
    // A kernel that does not answer is asked again soon; what was counted stays a lower bound.
    guard let information = try? Type1Information.ask(descriptor, container: name),
      let available = information.mappingsAvailable
    else { return }
    let (isFew, limit) = state.withLock { state in
      (state.allowance.isNow(available), state.allowance.limit)
    }
    guard isFew else { return }
    warn(
      "container \(name) has room for \(available) more mappings of \(limit ?? available) "
        + "(dma_avail); \(Self.moreMappings)")
  }

  static let moreMappings =
    "merge neighbouring mappings, map in bigger pages, raise dma_entry_limit of vfio_iommu_type1, "
    + "or use iommufd, which has no such limit"

  private func mapDetail(_ errno: Int32, _ request: MapRequest) -> String {
    switch errno {
    case ContainerErrno.einval:
      let pageSize = alignment
      if !request.iova.isAligned(to: pageSize) { return "not whole pages of \(pageSize)" }
      if request.hvaFirst?.isAligned(to: pageSize) == false {
        return "its memory does not begin at a page of \(pageSize)"
      }
      let valid = capabilities.validRanges
      if !valid.isEmpty, !valid.contains(where: { $0.contains(request.iova) }) {
        return "it is not inside a valid IOVA range"
      }
      return request.permissions.isEmpty ? "it grants neither read nor write" : ""
    case ContainerErrno.eexist: return "it overlaps a mapping there is"
    case ContainerErrno.enospc:
      let limit = state.withLock { $0.allowance.limit }
      let count = limit.map { "its \($0) mappings" } ?? "as many mappings as it can"
      return "the container holds \(count) (dma_entry_limit); \(Self.moreMappings)"
    case ContainerErrno.enomem:
      return "memory can not be locked; is RLIMIT_MEMLOCK larger than the guest's RAM?"
    case ContainerErrno.efault:
      return "the memory at HVA \(request.hvaFirst ?? HVA(0)) can not "
        + "be pinned"
    case ContainerErrno.eoverflow: return "the range wraps"
    default: return ""
    }
  }
}
