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
  /// One device with a log, one without.
  case type1Mixed
  case iommufd
  /// Attached straight to the IOAS: nothing tracks.
  case iommufdNothing
  case iommufdDeviceLog
}

/// One guest, one container, one reader that copies what it harvests.
final class World {
  let memory: GenerationMemory
  let faults = FaultPlan()
  let log = GuestDirtyLog()
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
    faultingFrom setup: [FaultPlan.Fault] = []
  ) throws {
    self.pageCount = pageCount
    memory = GenerationMemory(pageCount: pageCount)
    tracker = DirtyTracker(log: log, policy: policy, record: record, omitting: omitting)
    (container, ports, deviceLog) = Self.container(kind, memory, faults, rangeCountMax)
    let regionPages = pageCount / regionCount
    for index in 0..<regionCount {
      try tracker.regionAdded(
        RAMRegion(name: "ram\(index)", gpa: Self.gpa(index * regionPages, regionPages)))
    }
    id = try tracker.addContainer(container, addressSpace: space)
    reader = try tracker.addConsumer("destination", startsDirty: startsDirty)
    faults.reset(setup)
  }

  private static func container(
    _ kind: ContainerKind, _ memory: GenerationMemory, _ faults: FaultPlan, _ rangeCountMax: Int
  ) -> (any DMAContainer, [SimulatedDevicePort], SimulatedDeviceLog?) {
    let deviceLog = SimulatedDeviceLog(
      name: "device log", rangeCountMax: rangeCountMax, faults: faults)
    switch kind {
    case .type1, .type1Pinned, .type1DeviceLog, .type1Mixed:
      let type1 = SimulatedType1(memory: memory, faults: faults)
      switch kind {
      case .type1: return (type1, [type1.attachDevice("nic")], nil)
      case .type1Pinned: return (type1, [type1.attachMediatedDevice("mdev")], nil)
      case .type1DeviceLog: return (type1, [type1.attachDevice("nic", log: deviceLog)], deviceLog)
      default:
        let ports = [type1.attachDevice("nic", log: deviceLog), type1.attachDevice("disk")]
        return (type1, ports, deviceLog)
      }
    case .iommufd, .iommufdNothing, .iommufdDeviceLog:
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
    do throws(TrackerError) {
      try tracker.iommuMap(
        id, Self.iova(page, count), to: GPA(gpaPage << 12), permissions: permissions)
      return true
    } catch {
      return false
    }
  }

  @discardableResult
  func unmap(_ page: UInt64, _ count: UInt64 = 1) -> Bool { unmap(Self.iova(page, count)) }

  @discardableResult
  func unmap(_ range: IOVARange) -> Bool {
    do throws(TrackerError) {
      try tracker.iommuUnmap(id, range)
      return true
    } catch {
      return false
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
    let harvest = tracker.harvest(for: reader, pageCountMax: countMax, runCountMax: Int.max)
    var pages: Set<UInt64> = []
    for run in harvest.runs {
      for page in (run.first.rawValue >> 12)...(run.last.rawValue >> 12) {
        pages.insert(page)
        copied[page] = memory.generation(page)
      }
    }
    tracker.delivered(harvest)
    return pages
  }

  var dirty: Set<UInt64> {
    var pages: Set<UInt64> = []
    for run in log.peek(for: reader, runCountMax: Int.max) {
      pages.formUnion((run.first.rawValue >> 12)...(run.last.rawValue >> 12))
    }
    return pages
  }

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
