import Addressing
import DMAContainer
import DirtyTracker
import EventTrace
import GuestDirtyLog
import Simulation

/// The kinds of container there are, with one device each.
enum ContainerKind: CaseIterable {
  /// vfio-pci in type1: every mapping counts as pinned.
  case type1
  /// A mediated device that pins what it writes.
  case type1Pinned
  case type1DeviceLog
  /// Its log works in words of 4 pages, as pds does in words of 64.
  case type1DeviceWords
  /// Its log works in pages of 16 KiB, though it is asked in 4 KiB, as mlx5 may.
  case type1DevicePages
  /// One device with a log, one without.
  case type1Mixed
  case iommufd
  /// Attached straight to the IOAS: nothing tracks.
  case iommufdNothing
  case iommufdDeviceLog
  /// Words of 64 pages: all of this world's IOVA is one or two of them.
  case iommufdDeviceWords

  var granule: DirtyLogGranule {
    switch self {
    case .type1DeviceWords: DirtyLogGranule(pageCount: 4, pageSize: .fourKiB)
    case .type1DevicePages: DirtyLogGranule(pageCount: 1, pageSize: PageSize(bytes: 16 << 10)!)
    case .iommufdDeviceWords: .words(of: .fourKiB)
    default: .page
    }
  }
}

/// One guest, one container, one reader that copies what it harvests.
final class World {
  let kind: ContainerKind
  let memory: GenerationMemory
  let faults = FaultPlan()
  let log: GuestDirtyLog
  let tracker: DirtyTracker
  let container: any DMAContainer
  let ports: [SimulatedDevicePort]
  let deviceLog: SimulatedDeviceLog?
  let id: ContainerID
  let reader: ConsumerID
  /// What the destination has.
  var copied: [UInt64: UInt64] = [:]
  var reports: [SyncReport] = []
  let pageCount: UInt64

  init(
    _ kind: ContainerKind, pageCount: UInt64 = 16, regionCount: UInt64 = 1,
    space: ContainerAddressSpace = .remapped,
    policy: TrackerPolicy = TrackerPolicy(rearmPageCount: 2), rangeCountMax: Int = 2,
    omitting: Set<TrackerOmission> = [], record: EventRecord? = nil, startsDirty: Bool = true,
    statesGranule: Bool = true, ignoresSecondStart: Bool = true,
    faultingFrom setup: [FaultPlan.Fault] = [], pace: StepPace = StepPace(),
    log: GuestDirtyLog = GuestDirtyLog(), hooks: HookedContainer.Hooks? = nil
  ) throws {
    self.kind = kind
    self.log = log
    self.pageCount = pageCount
    memory = GenerationMemory(pageCount: pageCount)
    tracker = DirtyTracker(
      log: log, policy: policy, cpu: nil, record: record, omitting: omitting, pace: pace)
    let deviceLog = SimulatedDeviceLog(
      name: "device log", rangeCountMax: rangeCountMax, granule: kind.granule,
      statesGranule: statesGranule, ignoresSecondStart: ignoresSecondStart, faults: faults)
    let made: any DMAContainer
    (made, ports, self.deviceLog) = Self.container(kind, memory, faults, deviceLog)
    container = hooks.map { HookedContainer(made, $0) } ?? made
    let regionPages = pageCount / regionCount
    for index in 0..<regionCount {
      try tracker.regionAdded(
        RAMRegion(name: "ram\(index)", gpa: Self.gpa(index * regionPages, regionPages)))
    }
    id = try tracker.addContainer(container, addressSpace: space)
    reader = try tracker.log.addConsumer("destination", startsDirty: startsDirty)
    faults.reset(setup)
  }

  static func container(
    _ kind: ContainerKind, _ memory: GenerationMemory, _ faults: FaultPlan,
    _ deviceLog: SimulatedDeviceLog
  ) -> (any DMAContainer, [SimulatedDevicePort], SimulatedDeviceLog?) {
    switch kind {
    case .type1, .type1Pinned, .type1DeviceLog, .type1DeviceWords, .type1DevicePages, .type1Mixed:
      let type1 = SimulatedType1(memory: memory, faults: faults)
      switch kind {
      case .type1: return (type1, [type1.attachDevice("nic")], nil)
      case .type1Pinned: return (type1, [type1.attachMediatedDevice("mdev")], nil)
      case .type1DeviceLog, .type1DeviceWords, .type1DevicePages:
        return (type1, [type1.attachDevice("nic", log: deviceLog)], deviceLog)
      default:
        let ports = [type1.attachDevice("nic", log: deviceLog), type1.attachDevice("disk")]
        return (type1, ports, deviceLog)
      }
    case .iommufd, .iommufdNothing, .iommufdDeviceLog, .iommufdDeviceWords:
      let ioas = SimulatedIOMMUFD(memory: memory, faults: faults)
      switch kind {
      case .iommufd:
        let hwpt = ioas.allocateHWPT("hwpt")
        return (ioas, [ioas.attachDevice("nic", to: hwpt)], nil)
      case .iommufdNothing: return (ioas, [ioas.attachDevice("nic")], nil)
      default:
        return (ioas, [ioas.attachDevice("nic", log: deviceLog)], deviceLog)
      }
    }
  }

  static func iova(_ page: UInt64, _ count: UInt64 = 1) -> IOVARange {
    IOVARange(first: IOVA(page << 12), byteCount: count << 12)!
  }

  static func gpa(_ page: UInt64, _ count: UInt64 = 1) -> GPARange {
    GPARange(first: GPA(page << 12), byteCount: count << 12)!
  }

  /// - Returns: false when the tracker refused.
  @discardableResult
  func map(
    _ page: UInt64, _ count: UInt64 = 1, to gpaPage: UInt64, _ permissions: Permissions = .readWrite
  ) -> Bool {
    refusalToMap(page, count, to: gpaPage, permissions) == nil
  }

  func refusalToMap(
    _ page: UInt64, _ count: UInt64 = 1, to gpaPage: UInt64, _ permissions: Permissions = .readWrite
  ) -> TrackerError? {
    do throws(TrackerError) {
      try tracker.iommuMap(
        id, Self.iova(page, count), to: GPA(gpaPage << 12), permissions: permissions)
      return nil
    } catch {
      return error
    }
  }

  @discardableResult
  func unmap(_ page: UInt64, _ count: UInt64 = 1) -> Bool { unmap(Self.iova(page, count)) }

  @discardableResult
  func unmap(_ range: IOVARange) -> Bool { refusalToUnmap(range) == nil }

  func refusalToUnmap(_ range: IOVARange) -> TrackerError? {
    do throws(TrackerError) {
      try tracker.iommuUnmap(id, range)
      return nil
    } catch {
      return error
    }
  }

  /// - Returns: the GPA page written; nil when the IOMMU stopped it.
  @discardableResult
  func write(_ page: UInt64, device: Int = 0) -> UInt64? {
    ports[device % ports.count].touch(IOVA(page << 12)).map { $0.rawValue >> 12 }
  }

  func start() { reports.append(tracker.startTracking()) }
  func sync(isFinal: Bool = false) { reports.append(tracker.sync(isFinal: isFinal)) }

  /// Takes dirty pages and copies them, as a migration does.
  /// - Returns: the pages.
  @discardableResult
  func harvest(_ countMax: UInt64 = .max) -> Set<UInt64> {
    let harvest = tracker.log.harvest(for: reader, pageCountMax: countMax, runCountMax: Int.max)
    var pages: Set<UInt64> = []
    for run in harvest.runs {
      for page in (run.first.rawValue >> 12)...(run.last.rawValue >> 12) {
        pages.insert(page)
        copied[page] = memory.generation(page)
      }
    }
    tracker.log.delivered(harvest)
    return pages
  }

  var dirty: Set<UInt64> { log.peek(for: reader, runCountMax: Int.max).pages }

  /// The last steps of a migration, the device stopped.
  /// - Returns: pages whose content the destination does not have.
  func finish() -> Set<UInt64> {
    sync(isFinal: true)
    harvest()
    return different
  }

  var different: Set<UInt64> {
    Set(memory.pages.filter { copied[$0.key] != $0.value }.keys)
  }

  var notes: [String] { reports.flatMap(\.notes) }
}
