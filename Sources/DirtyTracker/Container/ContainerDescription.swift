public import Addressing
public import GuestDirtyLog

/// Who performs map and unmap on a container.
public enum ContainerOwnership: UInt8, Sendable, Hashable {
  /// The tracker calls the container.
  case tracker = 1
  /// The VMM does or has done it, and hands over the bitmap its unmap returned. The tracker calls
  /// the container's dirty logs only.
  case vmm = 2
}

/// What a container's IOVA mean.
public enum ContainerAddressSpace: UInt8, Sendable, Hashable {
  /// No vIOMMU translates: IOVA = GPA, RAM regions are mapped 1:1.
  case identity = 1
  /// Behind a vIOMMU: the guest maps and unmaps.
  case remapped = 2
}

/// A container as a question finds it.
public struct ContainerDescription: Sendable, Hashable {
  public var id: ContainerID
  public var name: String
  public var ownership: ContainerOwnership
  public var addressSpace: ContainerAddressSpace
  /// One for each dirty log, degraded ones said so.
  public var scopes: [String]
  public var isTracking: Bool
  public var mappingCount: Int
  /// Pages of 4 KiB.
  public var mappedPageCount: UInt64
  public var writablePageCount: UInt64
  public var retiredMappingCount: Int
  public var generation: Generation
}
