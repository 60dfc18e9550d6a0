import Addressing
import DeviceMigration
import GuestDirtyLog
import TestSupport

/// A migration of 256 MiB in virtual time: the real source, with a guest, devices, a link and a
/// destination that only take time.
///
/// Not checked for threads: a test drives everything from one.
final class VirtualMigration: @unchecked Sendable {
  static let pageCount: UInt64 = 1 << 16
  let time = VirtualTime()
  let log = GuestDirtyLog()
  private(set) var load: VirtualLoad
  private let seed: UInt64
  private let pongsOvertake: Bool
  private var random: SeededGenerator
  private var writtenAt: UInt64 = 0
  fileprivate(set) var isRunning = true

  /// - Parameter pongsOvertake: see ``VirtualLink``.
  init(_ place: VirtualLoad.Place, seed: UInt64, pongsOvertake: Bool = false) {
    self.seed = seed
    self.pongsOvertake = pongsOvertake
    load = VirtualLoad(place, seed: seed)
    random = SeededGenerator(seed: ~seed)
  }

  func run() throws -> MigrationReport {
    let ram = RAMRegion(
      name: "ram", gpa: AddressRange(first: GPA(0), last: GPA(Self.pageCount << 12 - 1)))
    try log.addRegion(ram)
    var policy = MigrationPolicy()
    policy.downtimeLimitNanoseconds = load.limitMilliseconds * 1_000_000
    policy.notConverging = .stopAnyway(afterRounds: 12)
    policy.roundCountMin = 3
    policy.guestUsesPeerToPeer = false
    let devices = load.deviceBytes.indices.map { VirtualDevice(self, number: $0) }
    let time = time
    let source = MigrationSource(
      machine: VirtualMachine(self), tracking: VirtualTracking(self),
      memory: RepeatedMemory(ram.gpa), devices: devices.map { MigratingDevice($0) },
      policy: policy, clock: { time.nanoseconds })
    writtenAt = time.nanoseconds
    return try source.run(
      over: VirtualLink(time, self, seed: seed &+ 7, pongsOvertake: pongsOvertake))
  }

  var crowding: Double { load.crowding(&random) }

  /// The work of something that shares its processor with the guest.
  func work(_ nanoseconds: Double) {
    time.pass(nanoseconds * crowding + load.absence(&random))
  }

  /// What the guest wrote since the last time: mostly to its hot pages, in runs of one to eight.
  /// - Returns: pages that became dirty.
  func write() -> UInt64 {
    let elapsed = Double(time.nanoseconds - writtenAt) / 1e9
    writtenAt = time.nanoseconds
    guard isRunning else { return 0 }
    var fresh: UInt64 = 0
    func mark(_ pages: Double, in count: Int, at base: UInt64) {
      var left = Int(pages)
      while left > 0 {
        let length = min(1 + random.below(8), left)
        let first = base + UInt64(random.below(count - 8))
        let range = GPARange(first: GPA(first << 12), byteCount: UInt64(length) << 12)!
        fresh += log.mark(range, by: .vcpu).newlyDirtyPages
        left -= length
      }
    }
    // More than a few times all of them changes nothing.
    mark(
      min(load.hotPagesPerSecond * elapsed, Double(4 * load.hotPageCount)),
      in: load.hotPageCount, at: 20_000)
    mark(
      min(load.coldPagesPerSecond * elapsed, Double(Self.pageCount)), in: Int(Self.pageCount),
      at: 0)
    return fresh
  }

  fileprivate func stop() {
    _ = write()
    time.pass(load.stopNanoseconds)
    _ = write()
    isRunning = false
    load.isCrowded = false
  }

  fileprivate func markPinned() {
    guard load.pinnedPageCount > 0 else { return }
    let bytes = UInt64(load.pinnedPageCount) << 12
    log.mark(
      GPARange(first: GPA(40_000 << 12), byteCount: bytes)!, by: .deviceQuery(ContainerID(0)))
  }
}

extension VirtualMigration: VirtualCrowd {}

private final class VirtualMachine: MigratingMachine {
  let migration: VirtualMigration
  init(_ migration: VirtualMigration) { self.migration = migration }
  var isRunning: Bool { migration.isRunning }
  func stopVCPUs() throws(MachineError) { migration.stop() }
  func resumeVCPUs() throws(MachineError) {}
  func saveState() throws(MachineError) -> [UInt8] { [UInt8](repeating: 1, count: 4096) }
  func restoreState(_ bytes: [UInt8]) throws(MachineError) {}
}

private final class VirtualTracking: GuestDirtyTracking, @unchecked Sendable {
  let migration: VirtualMigration
  init(_ migration: VirtualMigration) { self.migration = migration }
  var log: GuestDirtyLog { migration.log }
  var migrationBlockers: [String] { [] }
  func startTracking() -> SyncReport { SyncReport() }
  func stopTracking() -> SyncReport { SyncReport() }

  func sync(isFinal: Bool) -> SyncReport {
    var report = SyncReport(isFinal: isFinal)
    report.vcpuDirtyPages = migration.write()
    let load = migration.load
    migration.work(
      load.syncNanoseconds + load.syncNanosecondsPerPage * Double(report.vcpuDirtyPages))
    if isFinal { migration.markPinned() }
    return report
  }

  var heldBackPageCount: UInt64 { UInt64(migration.load.pinnedPageCount) }
}

/// A device that has state of so many bytes, a part of it before the stop.
private final class VirtualDevice: MigratableDevice, @unchecked Sendable {
  let name: String
  let interface = MigrationInterface.v2([.stopCopy, .p2p, .precopy])
  private let migration: VirtualMigration
  private let byteCount: Int
  private(set) var state = DeviceState.running
  private(set) var observedStates: [DeviceState] = []
  private var given = 0

  init(_ migration: VirtualMigration, number: Int) {
    self.migration = migration
    name = "device \(number)"
    byteCount = migration.load.deviceBytes[number]
  }

  private func move(_ next: DeviceState) {
    migration.work(migration.load.walkNanosecondsPerDevice)
    state = next
  }

  func beginPrecopy() throws(DeviceError) { move(.precopy) }

  func nextChunk(
    into buffer: inout [UInt8], byteCountMax: Int
  ) throws(DeviceError) -> ChunkOutcome {
    buffer.removeAll(keepingCapacity: true)
    let limit = state == .stopCopy ? byteCount : byteCount / 2
    let count = min(limit - given, 64 << 10, byteCountMax)
    guard count > 0 else { return state == .stopCopy ? .end : .drainedForNow }
    migration.work(Double(count) * migration.load.deviceNanosecondsPerByte)
    buffer.append(contentsOf: repeatElement(7, count: count))
    given += count
    return .chunk
  }

  func pendingEstimate() -> PendingEstimate {
    PendingEstimate(
      precopyDirtyBytes: UInt64(max(0, byteCount / 2 - given)),
      stopCopyBytes: UInt64(byteCount - given))
  }

  func enterP2P() throws(DeviceError) { move(.precopyP2P) }
  func leaveP2P() throws(DeviceError) { move(.precopy) }
  func beginStopCopy() throws(DeviceError) { move(.stopCopy) }
  func finishSaving() throws(DeviceError) { state = .stop }
  func stop() throws(DeviceError) { state = .stop }
  func beginResuming() throws(DeviceError) {}
  func load(_ chunk: RawSpan) throws(DeviceError) {}
  func finishResuming() throws(DeviceError) {}
  func prepareToRun() throws(DeviceError) {}
  func run() throws(DeviceError) {}
  func recover() throws(DeviceError) -> DeviceRecovery { .running }
  var hasConfiguration: Bool { false }
  func saveConfiguration() throws(DeviceError) -> [UInt8]? { nil }
  func restoreConfiguration(_ bytes: RawSpan) throws(DeviceError) {}
}
