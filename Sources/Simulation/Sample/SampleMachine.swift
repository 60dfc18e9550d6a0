import Addressing
import CPUDirty
import DMAContainer
import Glibc
public import DeviceMigration
public import DirtyTracker
public import GuestDirtyLog
import PageBitmap
import Locking
import NodeThreads

/// A whole virtual machine without a hypervisor: RAM in a memfd, vCPUs and devices that are
/// threads, a guest that maps and unmaps through its vIOMMU, and the tracker a VMM would have.
///
/// vCPUs write through one mapping of RAM, which PAGEMAP_SCAN watches; devices through another,
/// which it can not see. So a page that only a device wrote arrives only if the tracker does its
/// work.
///
/// Invariants:
/// 1. Every write, of a vCPU or a device, is in the ledger: what a verdict counts is what was done.
/// 2. A buffer is offered to a device after its map and withdrawn before its unmap.
/// 3. After `stopVCPUs` no vCPU writes and no driver maps; devices do until their state stops them.
///
/// States:
///
///     made ──start──> running <──resumeVCPUs / stopVCPUs──> stopped ──shutDown──> ended
///     made ──restoreState, resumeVCPUs──> arrived (nothing runs yet) ──start──> running
///
/// One thread drives it, the one that drives the migration.
public final class SampleMachine: MigratingMachine {
  public let options: SampleOptions
  public let ram: GuestRAM
  public let ledger: WriteLedger
  public let tracker: DirtyTracker
  public let containers: [SampleContainer]
  public let devices: [SampleDevice]
  /// What watches the vCPUs' writes.
  public let cpuSource: any CPUDirtySource
  /// Why it is not the kernel that watches them; nil where it is.
  public let fallbackReason: String?
  public private(set) var isRunning = false
  let vcpus: [VirtualCPU]
  private var hasThreads = false
  /// Share of their time that was taken from the vCPUs. Percent.
  public private(set) var throttledPercent = 0
  private var stepShare = 0
  /// Writes of all vCPUs.
  public var vcpuWriteCount: UInt64 { vcpus.reduce(0) { $0 &+ $1.state.generation } }

  /// - Throws: ``SampleError``.
  public init(_ options: SampleOptions) throws(SampleError) {
    self.options = options
    let layout = GuestLayout(byteCount: options.memoryByteCount)
    let ledger = WriteLedger(layout: layout)
    self.ledger = ledger
    do throws(GuestError) {
      ram = try GuestRAM(layout: layout, ledger: ledger)
    } catch {
      throw SampleError("\(error)")
    }
    let watch = try Self.watch(ram, options)
    cpuSource = watch.source
    fallbackReason = watch.fallbackReason
    let topology = SystemNUMATopology()
    let log = GuestDirtyLog(
      topology: topology, workers: NodeThreads(nodeCount: topology.nodeCount))
    tracker = DirtyTracker(
      log: log, cpu: watch.source, record: options.record, omitting: options.omitting,
      clock: { MonotonicTime.now.nanoseconds }, rest: { sched_yield() })
    vcpus = Self.vcpus(options, ram, watch.marks)
    let built: (containers: [SampleContainer], devices: [SampleDevice])
    do throws(TrackerError) {
      try tracker.begin()
      for region in ram.ramRegions { try tracker.regionAdded(region) }
      try tracker.commit()
      built = try Self.populate(options, ram, tracker)
    } catch {
      throw SampleError("\(error)")
    }
    containers = built.containers
    devices = built.devices
  }

  private static func watch(
    _ ram: GuestRAM, _ options: SampleOptions
  ) throws(SampleError) -> SampleWatch {
    if options.marksVCPUWrites { return try marked(ram, fallbackReason: nil) }
    switch PagemapScan.availability() {
    case .available:
      return SampleWatch(
        source: PagemapScanSource(regions: ram.ramRegions), fallbackReason: nil, marks: nil)
    case .unavailable(let error):
      return try marked(ram, fallbackReason: "\(error)")
    }
  }

  private static func marked(
    _ ram: GuestRAM, fallbackReason: String?
  ) throws(SampleError) -> SampleWatch {
    do {
      let marked = try MarkedWrites(regions: ram.ramRegions)
      return SampleWatch(source: marked, fallbackReason: fallbackReason) { marked.wrote($0) }
    } catch {
      throw SampleError("\(error)")
    }
  }

  private static func vcpus(
    _ options: SampleOptions, _ ram: GuestRAM, _ marks: (@Sendable (GPARange) -> Void)?
  ) -> [VirtualCPU] {
    // The lower half is the processors', so that devices also write where no processor does.
    let share = max(ram.layout.pageCount / 2 / UInt64(options.vcpuCount), 1)
    return (0..<options.vcpuCount).map { index in
      let first = UInt64(index) &* share
      let pattern = WritePattern(
        pages: first..<(first &+ share), hotPageCount: min(share / 8, 1024))
      return VirtualCPU(
        writer: UInt64(index) &+ 1, ram: ram, pattern: pattern, seed: options.seed,
        pagesPerSecond: options.vcpuPagesPerSecond, marks: marks)
    }
  }

  /// As ``MigrationSource`` wants them. In this guest no device can reach another: its mappings are
  /// of RAM.
  public var migratingDevices: [MigratingDevice] {
    devices.map { MigratingDevice($0.migratable, startsPeerToPeer: false) }
  }

  // MARK: running

  /// What a source has that a destination gets from it: half of RAM is filled, devices are set up,
  /// drivers have mapped their rings.
  public func boot() throws(SampleError) {
    ram.fill(seed: options.seed)
    try mapRings(0)
    do throws(DeviceError) {
      for (number, device) in devices.enumerated() { try device.bootConfiguration(number) }
    } catch {
      throw SampleError("\(error)")
    }
  }

  /// The drivers open more queues, as under load: rings at IOVAs that were never mapped before.
  /// From any thread.
  public func openQueues() throws(SampleError) { try mapRings(1) }

  private func mapRings(_ set: Int) throws(SampleError) {
    do throws(IOMMURefusal) {
      for (index, container) in containers.enumerated() {
        try container.driver.keep(SampleRings(layout: ram.layout, container: index).set(set))
      }
    } catch {
      throw SampleError("\(error)")
    }
  }

  /// Starts vCPUs, the guest's drivers and the devices' DMA.
  public func start() throws(SampleError) {
    precondition(!hasThreads, "a machine is started once")
    hasThreads = true
    do throws(GuestError) {
      for container in containers { try container.thread.start() }
      for device in devices { try device.thread.start() }
      for vcpu in vcpus { try vcpu.start() }
    } catch {
      throw SampleError("\(error)")
    }
    isRunning = true
  }

  /// Runs without threads: the parts of the machine for a scheduler to step, so that one seed is
  /// one run. vCPUs and drivers take no step while the guest is stopped.
  public func startStepped(seed: UInt64) -> SeededScheduler {
    precondition(!hasThreads, "a machine is started once")
    hasThreads = true
    isRunning = true
    var scheduler = SeededScheduler(seed: seed)
    for vcpu in vcpus {
      scheduler.add("vcpu", weight: 4) { [self] in if isRunning, takesStep() { vcpu.step() } }
    }
    for container in containers {
      scheduler.add("driver", weight: 2) { [self] in if isRunning { container.driver.step() } }
    }
    for device in devices {
      scheduler.add(device.name, weight: 2) { device.traffic.step(generation: 1) }
    }
    return scheduler
  }

  /// Whether a step of a throttled vCPU is one of those that are left to it.
  private func takesStep() -> Bool {
    stepShare += 100 - throttledPercent
    guard stepShare >= 100 else { return false }
    stepShare -= 100
    return true
  }

  public func throttleVCPUs(percent: Int) throws(MachineError) -> Bool {
    throttledPercent = percent
    for vcpu in vcpus { vcpu.throttle(percent: percent) }
    return true
  }

  /// Pauses what the guest runs: its processors, and with them its drivers. Devices go on until
  /// their state stops them.
  public func stopVCPUs() throws(MachineError) {
    for container in containers { container.thread.pause() }
    for vcpu in vcpus { vcpu.pause() }
    isRunning = false
  }

  /// On a destination the guest stays still until `start`, so that its memory can be compared.
  public func resumeVCPUs() throws(MachineError) {
    if options.vcpusStayStopped {
      throw MachineError(operation: "resume its vCPUs", detail: "they are made to stay stopped")
    }
    for vcpu in vcpus { vcpu.resume() }
    for container in containers { container.thread.resume() }
    isRunning = true
  }

  /// Ends every thread.
  public func shutDown() {
    for container in containers { container.thread.stop() }
    for vcpu in vcpus { vcpu.stop() }
    for device in devices { device.thread.stop() }
    isRunning = false
  }

  public func saveState() throws(MachineError) -> [UInt8] { SampleState(of: self).encoded() }

  public func restoreState(_ bytes: [UInt8]) throws(MachineError) {
    try SampleState(decoding: bytes).restore(into: self)
  }
}

/// Who watches vCPU writes.
struct SampleWatch {
  let source: any CPUDirtySource
  let fallbackReason: String?
  var marks: (@Sendable (GPARange) -> Void)?
}

/// The sample machine could not be made, or could not go on.
public struct SampleError: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
