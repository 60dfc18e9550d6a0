import Addressing
import DMAContainer
import EventTrace
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Locking

/// One container, as the tracker keeps it.
///
/// Locks, taken in this order and never the other way round:
/// 1. `operation`: one operation at a time, held across the calls to the backend, as the kernel's
///    own container lock is. So a query and the scatter of its answer see the same mappings, and
///    dirt is never credited to a mapping made later.
/// 2. `book`: the table and what questions read, held for one step of the table. Only a holder of
///    `operation` changes it; questions and `deviceWrote` take it alone and wait for no backend.
/// 3. The log's own.
///
/// States of each of its dirty logs:
///
///                  start              query failed: stop, start with new ranges,
///       stopped ----------> logging   re-arm        mark everything mapped
///          |  ^               |  ^------------------------'
///          |  |  stop         |  start or stop failed
///          |  '---------------+-----------------.
///          |      start failed                  v
///          '-----------------------> everythingMapped --- stop ---> stopped
///
/// Invariants:
/// 1. The table holds what the backend holds, when nobody is inside an operation.
/// 2. A mapping leaves the table after its dirt is in the log.
/// 3. Marks for a mapping that goes away are made after the backend has removed it: whatever the
///    device wrote until then is in memory when a harvest takes the page.
final class TrackedContainer: Sendable {
  let id: ContainerID
  let name: String
  let backend: any DMAContainer
  let ownership: ContainerOwnership
  /// The alignment of every map and unmap.
  let pageSize: PageSize
  let bisectPolicy: BisectPolicy
  let settings: TrackerSettings
  let operation: Mutex<ContainerOperation>
  let book: Mutex<ContainerBook>

  init(
    id: ContainerID, backend: any DMAContainer, ownership: ContainerOwnership,
    addressSpace: ContainerAddressSpace, settings: TrackerSettings
  ) throws(TrackerError) {
    self.id = id
    self.name = backend.name
    self.backend = backend
    self.ownership = ownership
    self.settings = settings
    let capabilities = backend.capabilities
    pageSize = capabilities.pageSizes.smallest ?? .fourKiB
    bisectPolicy = capabilities.bisectPolicy
    do {
      let bitmap = try QueryBitmap(byteCountMax: ContainerOperation.bitmapByteCountMin)
      operation = Mutex(
        ContainerOperation(
          capabilities: capabilities, addressSpace: addressSpace, bitmap: bitmap))
    } catch {
      throw .outOfMemory(container: backend.name, error)
    }
    let countMax = min(capabilities.mappingCountMax ?? .max, Limits.mappingCountMax)
    // Split: a guest may invalidate a part of what it mapped. Where the backend refuses that, the
    // tracker unmaps the whole and maps the rest again, so that the two agree.
    let table = MappingTable(
      policy: .split, pageSize: pageSize,
      mappingCountMax: countMax)
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
}

/// What an operation works with. All of it is reused: an operation allocates when it needs more
/// than any before it.
struct ContainerOperation: ~Copyable, Sendable {
  /// Bits of 2 GiB of 4 KiB pages to begin with; more is had when a window needs it.
  static let bitmapByteCountMin = 64 << 10
  /// Mappings scattered through at a time.
  static let mappingBatchCount = 4096

  var isTracking = false
  var isRemoved = false
  /// An unmap failed half way: the backend may lack mappings the table holds.
  var hasPartialUnmap = false
  /// As of the last start or attachment: what unmap can do depends on the devices.
  var capabilities: ContainerCapabilities
  var addressSpace: ContainerAddressSpace
  var logs: [TrackedLog] = []
  var bitmap: QueryBitmap
  var mappings: [Mapping] = []
  var steps: [QueryPlan.Step] = []
  /// Since the last report, and of these the ones before the report under way began.
  var callCount = 0
  var mappingCallCount = 0
  var count = MarkCount()
  var heldBackPages: UInt64 = 0
  /// Pages marked by reports taken so far.
  var reportedPages: UInt64 = 0
  var notes = TrackerNotes()
  /// Writable pages found outside the ranges of each log in the sync under way.
  var unloggedPages: UInt64 = 0

  init(
    capabilities: ContainerCapabilities, addressSpace: ContainerAddressSpace,
    bitmap: consuming QueryBitmap
  ) {
    self.capabilities = capabilities
    self.addressSpace = addressSpace
    self.bitmap = bitmap
  }

  /// Pages marked since the container was added; a page counts each time.
  var markedPages: UInt64 { reportedPages &+ count.dirtyPages }

  /// No answer of a log can make less than everything mapped writable count as written.
  var isEverythingMapped: Bool {
    logs.isEmpty || logs.contains { $0.mode == .everythingMapped }
  }
}

/// The table, and what questions read of the rest.
struct ContainerBook: ~Copyable, Sendable {
  var table: MappingTable
  var addressSpace: ContainerAddressSpace
  var scopes: [String] = []
  var isTracking = false

  init(table: consuming MappingTable, addressSpace: ContainerAddressSpace) {
    self.table = table
    self.addressSpace = addressSpace
  }
}
