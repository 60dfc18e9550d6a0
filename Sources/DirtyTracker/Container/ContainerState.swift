import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import Locking
import PageBitmap

/// What one holder of a container's operation works with. Its methods are what can be done to a
/// container: map, unmap, a step of a course, what questions read.
///
/// Buffers are allocated once and reused.
struct ContainerState: ~Copyable, Sendable {
  /// Bits of 2 GiB of 4 KiB pages to begin with; grows when a window needs it.
  static let bitmapByteCountMin = 64 << 10
  /// Mappings scattered through at a time.
  static let mappingBatchCount = 4096

  let context: ContainerContext
  var isTracking = false
  var isRemoved = false
  /// An unmap failed half way: the backend may lack mappings the table holds.
  var hasPartialUnmap = false
  /// As of the last start or attachment: what unmap can do depends on the devices.
  var capabilities: ContainerCapabilities
  var addressSpace: ContainerAddressSpace
  var logs: [TrackedLog] = []
  /// What is being done in steps; nil between two courses.
  var course: ContainerCourse?
  /// Of the log that the course is about to start.
  var collection: RangeCollection?
  /// Marks written down and not yet made.
  var owed = OwedMarks()
  /// Why the table no longer says what the devices can reach; nil while it does. A VMM that owns
  /// its container has mapped what the table had no place for.
  var unknownMappings: String?
  /// RAM that went while mappings to it stayed, and when: what comes there again is other memory.
  var staleRAM: [StaleRAM] = []
  var bitmap: QueryBitmap
  var mappings: [Mapping] = []
  /// The table is being copied.
  var copy: TableCopy?
  /// Where the operation under way stands in the record; its marks belong there.
  var place = JournalPlace.none
  /// Its calls since the last answer that was recorded, which found nothing.
  var cleanCallCount: UInt64 = 0
  /// Every log there was while there is a record, in the order of their coming.
  var knownLogs: [any DirtyLog] = []
  var counts = StateCounts()
  /// It was said that an answer had dirt where nothing is mapped.
  var hasNotedUnknown = false
  var notes = TrackerNotes()

  init(
    context: ContainerContext, addressSpace: ContainerAddressSpace, bitmap: consuming QueryBitmap
  ) {
    self.context = context
    self.capabilities = context.backend.capabilities
    self.addressSpace = addressSpace
    self.bitmap = bitmap
  }

  var id: ContainerID { context.id }
  var holder: HolderID { context.holder }
  var name: String { context.name }
  var log: GuestDirtyLog { context.log }
  var settings: TrackerSettings { context.settings }
  var pageSize: PageSize { context.pageSize }

  /// No answer of a log can make less than everything mapped writable count as written.
  var isEverythingMapped: Bool {
    logs.isEmpty || logs.contains { $0.mode == .everythingMapped }
  }

  /// vCPUs and devices have stopped, and the last sync is under way.
  var isInFinalSync: Bool {
    if case .sync(let sync)? = course { sync.request.isFinal } else { false }
  }

  /// What questions read, as it is now.
  func publish() {
    let published = PublishedState(
      addressSpace: addressSpace, scopes: logs.map(\.scope),
      logs: isTracking ? logs.map(\.capabilities) : context.backend.dirtyLogs.map(\.capabilities),
      isTracking: isTracking)
    context.book.withLock { (book: inout ContainerBook) in book.published = published }
  }
}

/// RAM that has gone while a guest may have mappings to it.
struct StaleRAM: Sendable {
  let gpa: GPARange
  /// Of the table when it went: mappings made since are to what came after.
  let generation: Generation
}

/// What a report tells of one container.
struct StateCounts: Sendable {
  /// Calls of courses, and calls for the guest's maps and unmaps, since the last report.
  var courseCalls = 0
  var mappingCalls = 0
  var marked = MarkCount()
  var heldBackPages: UInt64 = 0
  /// Dirty where nothing is mapped.
  var unknownPages: UInt64 = 0
}

extension ContainerState {
  /// What happened since the last report.
  mutating func takeShare(into report: inout SyncReport) {
    var share = SyncReport.ContainerShare(container: id, name: name, scopes: logs.map(\.scope))
    share.backendCallCount = counts.courseCalls
    share.mappingCallCount = counts.mappingCalls
    share.dirtyPages = counts.marked.dirtyPages
    share.newlyDirtyPages = counts.marked.newlyDirtyPages
    share.heldBackPages = counts.heldBackPages
    share.unknownPages = counts.unknownPages
    report.containers.append(share)
    report.notes.append(contentsOf: notes.take())
    counts = StateCounts()
  }
}
