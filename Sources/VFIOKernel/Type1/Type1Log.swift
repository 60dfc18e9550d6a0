import Addressing
import CSmudgeLinux
import DMAContainer
import Locking
import PageBitmap

/// The dirty log of a type1 container, VFIO_IOMMU_DIRTY_PAGES:
///
///     off ── START ──> on ── STOP ──> off        bits not read are lost by STOP
///
/// A read takes the bits of unpinned pages; pinned ones are dirty again at once. Where the kernel
/// has no such log, everything counts as written and nothing is asked.
final class Type1Log: DirtyLog {
  private struct State {
    var migration: Type1Information.Migration?
    var scope = DirtyScope.everythingMapped
  }

  let name: String
  private let descriptor: VFIODescriptor
  private let top: TopOfSpace
  private let state = Mutex(State())

  init(name: String, descriptor: VFIODescriptor, top: TopOfSpace) {
    self.name = name
    self.descriptor = descriptor
    self.top = top
  }

  /// What is attached to the container has changed.
  func become(_ migration: Type1Information.Migration?, scope: DirtyScope) {
    state.withLock { $0 = State(migration: migration, scope: scope) }
  }

  private var migration: Type1Information.Migration? { state.withLock { $0.migration } }

  var capabilities: DirtyLogCapabilities {
    let state = state.withLock { $0 }
    return DirtyLogCapabilities(
      scope: state.scope,
      pageSizes: state.migration?.pageSizes ?? PageSizeSet(.fourKiB),
      queryBitmapByteCountMax: state.migration?.bitmapByteCountMax
        ?? Limits.queryBitmapByteCountMax,
      mayCrossHoles: true, mayCutMapping: false, canPeek: false, granule: .page)
  }

  /// A second start is 0 and does nothing; it does not clear.
  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    precondition(ranges.isEmpty, "the log follows the mappings")
    try control(.startLog, UInt32(SMUDGE_VFIO_DIRTY_PAGES_START))
  }

  func stop() throws(ContainerError) {
    try control(.stopLog, UInt32(SMUDGE_VFIO_DIRTY_PAGES_STOP))
  }

  private func control(
    _ operation: ContainerError.Operation, _ flags: UInt32
  ) throws(ContainerError) {
    guard migration != nil else { return }
    var call = smudge_vfio_dirty_pages()
    call.argsz = RequestBytes.size(smudge_vfio_dirty_pages.self)
    call.flags = flags
    let result = descriptor.control(.dirtyPages, &call)
    guard result >= 0 else { throw refused(operation, nil, -result) }
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    precondition(clear, "type1 reads and clears in one")
    guard let window = bitmap.window else {
      throw refused(.query, nil, ContainerErrno.einval)
    }
    guard migration != nil else { return bitmap.markAll() }
    guard let range = top.without(window, bitmap.pageSize) else { return }
    var call = smudge_vfio_dirty_pages_get()
    call.header.argsz = RequestBytes.size(smudge_vfio_dirty_pages_get.self)
    call.header.flags = UInt32(SMUDGE_VFIO_DIRTY_PAGES_GET_BITMAP)
    call.iova = range.first.rawValue
    call.size = range.lastOffset &+ 1
    let result = KernelBitmap.fill(&bitmap) { (description: smudge_vfio_bitmap) in
      call.bitmap = description
      return descriptor.control(.dirtyPages, &call)
    }
    guard result >= 0 else { throw refused(.query, window, -result) }
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32
  ) -> ContainerError {
    ContainerError(
      operation, object: name, range: range, errno: errno, detail: detail(operation, errno))
  }

  private func detail(_ operation: ContainerError.Operation, _ errno: Int32) -> String {
    switch (operation, errno) {
    case (.query, ContainerErrno.einval):
      "the window cuts a mapping, the page size is not the container's, or the log is off"
    case (.query, ContainerErrno.efault):
      "the bitmap could not be written; what was read before that point is cleared"
    case (.startLog, ContainerErrno.enomem): "no memory for the bitmaps; the log stays off"
    case (.startLog, ContainerErrno.einval): "a mapping has more than 2^31-1 pages"
    case (_, ContainerErrno.eacces): "the container is not of type1 v2"
    case (_, ContainerErrno.enotty): "the kernel has no such log"
    default: ""
    }
  }
}
