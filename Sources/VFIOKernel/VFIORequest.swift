import CSmudgeLinux

/// An ioctl of VFIO: its number and the kernel's name for it.
public struct VFIORequest: Hashable, Sendable, CustomStringConvertible {
  public let number: UInt32
  /// Without the prefix `VFIO_`.
  public let name: String

  private init(_ number: Int, _ name: String) {
    self.number = UInt32(number)
    self.name = name
  }

  public var description: String { "VFIO_\(name)" }

  // Of a container.
  public static let getAPIVersion = VFIORequest(SMUDGE_VFIO_GET_API_VERSION, "GET_API_VERSION")
  public static let checkExtension = VFIORequest(SMUDGE_VFIO_CHECK_EXTENSION, "CHECK_EXTENSION")
  public static let setIOMMU = VFIORequest(SMUDGE_VFIO_SET_IOMMU, "SET_IOMMU")
  public static let getInformation = VFIORequest(SMUDGE_VFIO_IOMMU_GET_INFO, "IOMMU_GET_INFO")
  public static let mapDMA = VFIORequest(SMUDGE_VFIO_IOMMU_MAP_DMA, "IOMMU_MAP_DMA")
  public static let unmapDMA = VFIORequest(SMUDGE_VFIO_IOMMU_UNMAP_DMA, "IOMMU_UNMAP_DMA")
  public static let dirtyPages = VFIORequest(SMUDGE_VFIO_IOMMU_DIRTY_PAGES, "IOMMU_DIRTY_PAGES")
  // Of a group.
  public static let getGroupStatus = VFIORequest(SMUDGE_VFIO_GROUP_GET_STATUS, "GROUP_GET_STATUS")
  public static let setContainer = VFIORequest(
    SMUDGE_VFIO_GROUP_SET_CONTAINER, "GROUP_SET_CONTAINER")
  public static let unsetContainer = VFIORequest(
    SMUDGE_VFIO_GROUP_UNSET_CONTAINER, "GROUP_UNSET_CONTAINER")
  public static let getDevice = VFIORequest(SMUDGE_VFIO_GROUP_GET_DEVICE_FD, "GROUP_GET_DEVICE_FD")
  // Of a device.
  public static let getDeviceInformation = VFIORequest(
    SMUDGE_VFIO_DEVICE_GET_INFO, "DEVICE_GET_INFO")
  public static let getRegionInformation = VFIORequest(
    SMUDGE_VFIO_DEVICE_GET_REGION_INFO, "DEVICE_GET_REGION_INFO")
  public static let reset = VFIORequest(SMUDGE_VFIO_DEVICE_RESET, "DEVICE_RESET")
  /// The number of ``dirtyPages``: the descriptor decides.
  public static let deviceFeature = VFIORequest(SMUDGE_VFIO_DEVICE_FEATURE, "DEVICE_FEATURE")
  // Of the data descriptor of a migration.
  public static let getPrecopyInformation = VFIORequest(
    SMUDGE_VFIO_MIG_GET_PRECOPY_INFO, "MIG_GET_PRECOPY_INFO")
}
