import DMAContainer
import IOVAMapping

/// The table of a container, and what questions read of the rest. Only a holder of the container's
/// operation changes it; questions take its lock alone and wait for no backend.
struct ContainerBook: ~Copyable, Sendable {
  var table: MappingTable
  var published: PublishedState

  init(table: consuming MappingTable, addressSpace: ContainerAddressSpace) {
    self.table = table
    published = PublishedState(addressSpace: addressSpace)
  }
}

/// What questions read of a container besides its table, as of the last change.
struct PublishedState: Sendable {
  var addressSpace: ContainerAddressSpace
  /// One for each dirty log, as reports print it.
  var scopes: [String] = []
  /// What its logs can do. As of the last start or attachment.
  var logs: [DirtyLogCapabilities] = []
  var isTracking = false
}
