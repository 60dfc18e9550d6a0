import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import Locking

/// What of a container never changes, and its table. Both the container and its state refer to it.
final class ContainerContext: Sendable {
  let id: ContainerID
  /// Under which the log holds its pages back: several trackers may share a log.
  let holder: HolderID
  let name: String
  let backend: any DMAContainer
  let ownership: ContainerOwnership
  /// The alignment of every map and unmap.
  let pageSize: PageSize
  let bisectPolicy: BisectPolicy
  let settings: TrackerSettings
  /// Lock order: after the container's operation, before those of the dirty log.
  let book: Mutex<ContainerBook>

  init(
    id: ContainerID, backend: any DMAContainer, ownership: ContainerOwnership,
    addressSpace: ContainerAddressSpace, settings: TrackerSettings
  ) {
    self.id = id
    self.name = backend.name
    self.backend = backend
    self.ownership = ownership
    self.settings = settings
    holder = settings.log.makeHolder(for: id)
    let capabilities = backend.capabilities
    pageSize = capabilities.pageSizes.smallest ?? .fourKiB
    bisectPolicy = capabilities.bisectPolicy
    let countMax = min(capabilities.mappingCountMax ?? .max, Limits.mappingCountMax)
    // Split: a guest may invalidate a part of what it mapped. Where the backend refuses that, the
    // tracker unmaps the whole and maps the rest again, so that the two agree.
    let table = MappingTable(policy: .split, pageSize: pageSize, mappingCountMax: countMax)
    book = Mutex(ContainerBook(table: table, addressSpace: addressSpace))
  }

  var log: GuestDirtyLog { settings.log }
  /// The tracker itself calls map and unmap.
  var performsCalls: Bool { ownership == .tracker }
}

/// What all containers of a tracker share.
struct TrackerSettings: Sendable {
  let log: GuestDirtyLog
  let memory: RAMLayout
  let policy: TrackerPolicy
  let omitting: Set<TrackerOmission>
  let record: EventRecord?
  let pace: StepPace
}
