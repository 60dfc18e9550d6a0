/// What the device that moves is, and who knows what it wrote.
enum MoveWay: String, CaseIterable {
  /// Migration v2; the container knows the pages it pinned.
  case pinned
  /// Migration v2; it logs its own DMA.
  case logged
  /// The migration region of v1, pinned pages; data by memory where the region can be mapped.
  case region
  /// The same with data by the descriptor alone.
  case regionByFile
  /// The same beside an edu in the container, behind a virtual IOMMU: every mapping is dirty.
  case regionBacked

  var hasRegion: Bool { self != .pinned && self != .logged }
  /// Of the lab's mediated device.
  var deviceType: String { hasRegion ? "region" : "pinning" }
}
