import CSmudgeLinux

/// An ioctl of an iommufd, or of a device that is bound to one.
public struct IOMMUFDRequest: Hashable, Sendable, CustomStringConvertible {
  public let number: UInt32
  /// The kernel's name: `IOMMU_IOAS_MAP`.
  public let name: String

  /// For requests this module does not make, as of the kernel's test interface.
  public init(_ number: Int, _ name: String) {
    self.number = UInt32(number)
    self.name = name
  }

  public var description: String { name }

  // Of an iommufd.
  public static let destroy = IOMMUFDRequest(SMUDGE_IOMMU_DESTROY, "IOMMU_DESTROY")
  public static let allocateIOAS = IOMMUFDRequest(SMUDGE_IOMMU_IOAS_ALLOC, "IOMMU_IOAS_ALLOC")
  public static let iovaRanges = IOMMUFDRequest(
    SMUDGE_IOMMU_IOAS_IOVA_RANGES, "IOMMU_IOAS_IOVA_RANGES")
  public static let map = IOMMUFDRequest(SMUDGE_IOMMU_IOAS_MAP, "IOMMU_IOAS_MAP")
  public static let mapFile = IOMMUFDRequest(SMUDGE_IOMMU_IOAS_MAP_FILE, "IOMMU_IOAS_MAP_FILE")
  public static let unmap = IOMMUFDRequest(SMUDGE_IOMMU_IOAS_UNMAP, "IOMMU_IOAS_UNMAP")
  public static let option = IOMMUFDRequest(SMUDGE_IOMMU_OPTION, "IOMMU_OPTION")
  public static let allocateHWPT = IOMMUFDRequest(SMUDGE_IOMMU_HWPT_ALLOC, "IOMMU_HWPT_ALLOC")
  public static let hardwareInformation = IOMMUFDRequest(
    SMUDGE_IOMMU_GET_HW_INFO, "IOMMU_GET_HW_INFO")
  public static let setDirtyTracking = IOMMUFDRequest(
    SMUDGE_IOMMU_HWPT_SET_DIRTY_TRACKING, "IOMMU_HWPT_SET_DIRTY_TRACKING")
  public static let getDirtyBitmap = IOMMUFDRequest(
    SMUDGE_IOMMU_HWPT_GET_DIRTY_BITMAP, "IOMMU_HWPT_GET_DIRTY_BITMAP")
  // Of a device.
  public static let bind = IOMMUFDRequest(
    SMUDGE_VFIO_DEVICE_BIND_IOMMUFD, "VFIO_DEVICE_BIND_IOMMUFD")
  public static let attach = IOMMUFDRequest(
    SMUDGE_VFIO_DEVICE_ATTACH_IOMMUFD_PT, "VFIO_DEVICE_ATTACH_IOMMUFD_PT")
  public static let detach = IOMMUFDRequest(
    SMUDGE_VFIO_DEVICE_DETACH_IOMMUFD_PT, "VFIO_DEVICE_DETACH_IOMMUFD_PT")
}
