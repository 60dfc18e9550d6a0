public import Addressing
import CSmudgeLinux
public import DMAContainer
import Locking
public import PageBitmap

/// The dirty bits of one hardware page table (HWPT) of an IOAS, which the IOMMU sets in the entries
/// through which a device writes (IOMMU_HWPT_SET_DIRTY_TRACKING, IOMMU_HWPT_GET_DIRTY_BITMAP,
/// Linux 6.7).
///
/// The kernel's answer is silent about much: it ends at the first hole, says nothing when tracking
/// is off or the bitmap's memory can not be pinned, and a window that begins inside a huge entry
/// loses that entry's bit. Hence the capabilities (no holes, no cut mappings unless every entry is
/// a page), and:
///
/// Invariants:
/// 1. A query of a log that is not started fails here: the kernel would say that nothing is dirty.
/// 2. A start of a started log does nothing: the kernel would clear what is unread.
/// 3. After a start or stop that failed nobody knows whether it runs: it can be stopped, again and
///    again, a start is asked of the kernel and not taken for done, and a query fails.
///
/// One bit of hardware is one page table entry: a write through an entry of 2 MiB is reported as
/// 2 MiB, unless the IOAS maps by small pages only, see ``IOMMUFDOptions/usesHugePages``.
public final class HWPTDirtyLog: DirtyLog {
  public let name: String
  /// Of the HWPT in its iommufd; a device is attached to it by this number.
  public let id: UInt32
  private let iommufd: IOMMUFDDescriptor
  /// Every entry of the page table is one page, so a window cuts none.
  private let hasSmallEntries: Bool
  private let course = Mutex(Course.off)

  private enum Course: Sendable { case off, started, unknown }

  init(name: String, id: UInt32, iommufd: IOMMUFDDescriptor, hasSmallEntries: Bool) {
    self.hasSmallEntries = hasSmallEntries
    self.name = name
    self.id = id
    self.iommufd = iommufd
  }

  public var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: .iommuHardware, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: false,
      mayCutMapping: hasSmallEntries, canPeek: true, granule: .page)
  }

  public func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    precondition(ranges.isEmpty, "the log follows the mappings")
    try course.withLock { (course: inout Course) throws(ContainerError) in
      if course == .started { return }
      course = .unknown
      try set(true, .startLog)
      course = .started
    }
  }

  public func stop() throws(ContainerError) {
    try course.withLock { (course: inout Course) throws(ContainerError) in
      if course == .off { return }
      course = .unknown
      try set(false, .stopLog)
      course = .off
    }
  }

  private func set(_ isOn: Bool, _ operation: ContainerError.Operation) throws(ContainerError) {
    var call = smudge_iommu_hwpt_set_dirty_tracking(
      size: RequestBytes.size(smudge_iommu_hwpt_set_dirty_tracking.self),
      flags: isOn ? UInt32(SMUDGE_IOMMU_HWPT_DIRTY_TRACKING_ENABLE) : 0, hwpt_id: id, reserved: 0)
    let result = iommufd.control(.setDirtyTracking, &call)
    guard result >= 0 else {
      let detail =
        result == -IOMMUFDErrno.eopnotsupp ? "the HWPT was allocated without dirty tracking" : ""
      throw ContainerError(operation, object: name, errno: -result, detail: detail)
    }
  }

  public func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    guard let window = bitmap.window else { return }
    guard course.withLock({ $0 }) == .started else {
      throw ContainerError(
        .query, object: name, range: window, errno: 0,
        detail: "it is not started, and the kernel would say that nothing was written")
    }
    guard let length = window.byteCount else {
      throw ContainerError(
        .query, object: name, range: window, errno: ContainerErrno.eoverflow,
        detail: "2^64 bytes have no length of 64 bits")
    }
    var call = smudge_iommu_hwpt_get_dirty_bitmap(
      size: RequestBytes.size(smudge_iommu_hwpt_get_dirty_bitmap.self), hwpt_id: id,
      flags: clear ? 0 : UInt32(SMUDGE_IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR), reserved: 0,
      iova: window.first.rawValue, length: length, page_size: bitmap.pageSize.bytes, data: 0)
    let result = RequestBytes.withAddress(of: &bitmap) { address in
      call.data = address
      return iommufd.control(.getDirtyBitmap, &call)
    }
    guard result >= 0 else {
      throw ContainerError(
        .query, object: name, range: window, errno: -result, detail: Self.detail(-result))
    }
  }

  private static func detail(_ errno: Int32) -> String {
    switch errno {
    case ContainerErrno.einval: "it does not consist of whole pages of the IOAS and the query"
    case ContainerErrno.enoent: "the HWPT is gone"
    case ContainerErrno.eopnotsupp: "the kernel does not know a flag, or the HWPT does not track"
    default: ""
    }
  }
}
