/// How a dirty log knows which pages a device wrote. From the most exact to the least.
public enum DirtyScope: UInt8, Sendable, Hashable, CaseIterable, CustomStringConvertible {
  /// The device keeps a log of its own DMA writes (VFIO_DEVICE_FEATURE_DMA_LOGGING_*).
  case deviceLog = 1
  /// The IOMMU sets a dirty bit in the page table entry (IOMMU_HWPT_GET_DIRTY_BITMAP).
  case iommuHardware = 2
  /// Known are the pages that are or were pinned for a device; any of them may have been written
  /// (VFIO_IOMMU_DIRTY_PAGES with every group of pinned scope).
  case pinned = 3
  /// Nothing is known: whatever is mapped writable counts as written.
  case everythingMapped = 4

  public var description: String {
    switch self {
    case .deviceLog: "device log"
    case .iommuHardware: "IOMMU hardware"
    case .pinned: "pinned pages"
    case .everythingMapped: "everything mapped"
    }
  }
}
