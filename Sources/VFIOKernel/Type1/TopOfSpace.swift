import Addressing
import CSmudgeLinux
import DMAContainer
import Locking

/// The end of the address space, where kernels before Linux 7.3 add up to 0: a mapping that ends at
/// 2^64-1 can be made there and never be found again. The kernel is asked once, when it matters.
final class TopOfSpace: Sendable {
  private let descriptor: VFIODescriptor
  private let known = Mutex<Bool?>(nil)

  init(_ descriptor: VFIODescriptor) { self.descriptor = descriptor }

  /// Whether ranges may end at 2^64-1. A range that wraps, which every kernel refuses, is
  /// EOVERFLOW where sums are checked, and EINVAL before.
  func isSound(_ pageSize: PageSize) -> Bool {
    if let known = known.withLock({ $0 }) { return known }
    var call = smudge_vfio_dma_unmap()
    call.argsz = RequestBytes.size(smudge_vfio_dma_unmap.self)
    call.iova = UInt64.max & ~pageSize.offsetMask
    call.size = pageSize.bytes &* 2
    let isSound = descriptor.control(.unmapDMA, &call) == -ContainerErrno.eoverflow
    known.withLock { $0 = isSound }
    return isSound
  }

  /// The range without a last page that can not be mapped; nil when nothing is left.
  func without(_ range: IOVARange, _ pageSize: PageSize) -> IOVARange? {
    guard range.last.rawValue == UInt64.max, !isSound(pageSize) else { return range }
    let last = UInt64.max &- pageSize.bytes
    guard range.first.rawValue <= last else { return nil }
    return AddressRange(first: range.first, last: IOVA(last))
  }
}
