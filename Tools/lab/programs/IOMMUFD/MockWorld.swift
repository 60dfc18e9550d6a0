import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import IOMMUFD
import KernelTestSupport

/// Memory, an IOAS on the kernel's iommufd, mock devices behind it, and the tracker.
final class MockWorld {
  static let base: UInt64 = 1 << 24
  let memory: LabMemory
  let container: IOMMUFDContainer
  private(set) var devices: [MockDevice] = []
  private(set) var logs: [HWPTDirtyLog] = []
  let tracker: DirtyTracker
  let id: ContainerID
  private let reader: ConsumerID
  private let log = GuestDirtyLog()

  /// - Parameters:
  ///   - isHuge: page table entries of 1 MiB where the memory allows them.
  ///   - omitting: steps left out, which the checks must notice.
  init(
    byteCount: UInt64, deviceCount: Int = 1, isHuge: Bool = false,
    omitting: Set<TrackerOmission> = [], calls: any IOMMUFDCalls = LinuxIOMMUFDCalls()
  ) throws {
    memory = try LabMemory(byteCount: Int(byteCount))
    container = try IOMMUFDContainer(
      options: IOMMUFDOptions(usesHugePages: isHuge), calls: calls)
    tracker = DirtyTracker(log: log, omitting: omitting)
    for index in 0..<deviceCount {
      let device = try MockDevice(in: container)
      let name = "mock \(index)"
      let hwpt =
        isHuge
        ? try device.allocateHugeHWPT(name, in: container)
        : try container.allocateHWPT(name, device: device.deviceID)
      try device.attach(to: hwpt)
      try container.addDevice(name, id: device.deviceID, hwpt: hwpt)
      devices.append(device)
      logs.append(hwpt)
    }
    try tracker.regionAdded(
      RAMRegion(name: "ram", gpaFirst: GPA(0), byteCount: byteCount, hvaFirst: HVA(memory.address)))
    id = try tracker.addContainer(container, addressSpace: .remapped)
    reader = try tracker.log.addConsumer("lab", startsDirty: false)
  }

  deinit { for device in devices { device.destroy() } }

  static func pages(_ first: UInt64, _ count: UInt64) -> IOVARange {
    let start = base + first << 12
    return AddressRange(first: IOVA(start), last: IOVA(start + count << 12 - 1))
  }

  func map(_ page: UInt64, _ count: UInt64, to gpaPage: UInt64) throws {
    try tracker.iommuMap(
      id, Self.pages(page, count), to: GPA(gpaPage << 12), permissions: .readWrite)
  }

  /// The device writes to half pages of IOVA pages, as numbers from the base.
  func write(_ halves: Set<UInt64>, in range: IOVARange, device: Int = 0) throws {
    try devices[device].write(to: logs[device], in: range) { iova in
      halves.contains((iova.rawValue - Self.base) / MockDevice.entryByteCount)
    }
  }

  /// GPA pages that a sync put in the log, taken out.
  func sync(isFinal: Bool = false) -> (pages: Set<UInt64>, notes: [String]) {
    let report = tracker.sync(isFinal: isFinal)
    return (take(), report.notes)
  }

  func take() -> Set<UInt64> {
    let harvest = log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
    log.delivered(harvest)
    var pages: Set<UInt64> = []
    for run in harvest.runs {
      for page in run.first.rawValue >> 12...run.last.rawValue >> 12 { pages.insert(page) }
    }
    return pages
  }
}
