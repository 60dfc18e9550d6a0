import Addressing
import DeviceMigration
import Glibc
import GuestDirtyLog
import TestSupport

/// Counts the calls of a migration and makes one of them fail. What was called, in order, stays in
/// `journal`.
///
/// Not checked for threads, as all of this file: a test drives everything from one.
final class CallPlan: @unchecked Sendable {
  var failAt = 0
  private(set) var count = 0
  private(set) var failed: String?
  var journal: [String] = []

  /// - Returns: true when this call is the one to fail.
  func call(_ name: String) -> Bool {
    count += 1
    journal.append(name)
    guard count == failAt else { return false }
    failed = name
    return true
  }
}

/// RAM with a page of canaries on both sides.
///
/// Sound because the memory lives as long as the object and every range is checked against it.
@safe final class ArrayMemory: GuestMemory, @unchecked Sendable {
  static let page = 4096
  private static let canary: UInt8 = 0xa5
  let first: GPA
  let pageCount: Int
  private let base: UnsafeMutableRawPointer

  init(first: GPA = GPA(0x10_0000), pageCount: Int) {
    self.first = first
    self.pageCount = pageCount
    let bytes = (pageCount + 2) * Self.page
    unsafe base = .allocate(byteCount: bytes, alignment: Self.page)
    unsafe base.initializeMemory(as: UInt8.self, repeating: Self.canary, count: bytes)
    unsafe (base + Self.page).initializeMemory(
      as: UInt8.self, repeating: 0, count: pageCount * Self.page)
  }

  deinit { unsafe base.deallocate() }

  var region: RAMRegion {
    let range = GPARange(first: first, byteCount: UInt64(pageCount * Self.page))!
    return RAMRegion(name: "ram", gpa: range)
  }

  /// A planted fault: the byte after the last page.
  func damageCanary() {
    unsafe base.storeBytes(of: 0, toByteOffset: (pageCount + 1) * Self.page, as: UInt8.self)
  }

  var canariesHold: Bool {
    let tail = (pageCount + 1) * Self.page
    let expected = [UInt8](repeating: Self.canary, count: Self.page)
    return unsafe memcmp(base, expected, Self.page) == 0
      && memcmp(base + tail, expected, Self.page) == 0
  }

  private func place(_ range: GPARange) -> Int? {
    guard region.gpa.contains(range) else { return nil }
    return Int(range.first.rawValue - first.rawValue) + Self.page
  }

  func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard let offset = place(range) else { return nil }
    let buffer = unsafe UnsafeRawBufferPointer(
      start: base + offset, count: Int(range.lastOffset) + 1)
    return try body(unsafe buffer.bytes)
  }

  func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard let offset = place(range) else { return nil }
    let buffer = unsafe UnsafeMutableRawBufferPointer(
      start: base + offset, count: Int(range.lastOffset) + 1)
    var span = unsafe buffer.mutableBytes
    return try body(&span)
  }

  func fill(page: Int, with value: UInt64) {
    precondition(page < pageCount)
    let target = unsafe base + (page + 1) * Self.page
    unsafe target.initializeMemory(as: UInt64.self, repeating: value, count: Self.page / 8)
    // No two words in a row that a shifted page would match.
    unsafe target.storeBytes(of: value &* 3, toByteOffset: 8 * Int(value % 512), as: UInt64.self)
  }

  func differingPages(_ other: ArrayMemory) -> [Int] {
    (0..<pageCount).filter { page in
      let offset = (page + 1) * Self.page
      return unsafe memcmp(base + offset, other.base + offset, Self.page) != 0
    }
  }
}

/// A device whose state is bytes: what it gives in chunks on one side is what it has on the other.
final class ScriptedDevice: MigratableDevice, @unchecked Sendable {
  let name: String
  let interface: MigrationInterface
  let plan: CallPlan
  /// What must arrive.
  var contents: [UInt8]
  /// Given out in pre-copy at most; the rest is for stop-and-copy.
  var precopyLimit: Int
  var estimates = true
  /// How many times it has new initial data when it is asked in PRE_COPY_P2P.
  var lateInitialCount = 0
  /// How often it was asked for the size of all that is left.
  private(set) var estimateCount = 0
  /// A planted fault.
  var recoversInNameOnly = false
  /// A planted fault: nothing more comes, and no end.
  var runsDryInStopCopy = false
  /// Called when the device is about to lose what it may do: its last DMA.
  var lastDMA: (() -> Void)?
  private(set) var state = DeviceState.running
  private(set) var observedStates: [DeviceState] = []
  private var given = 0
  private var loading: [UInt8] = []

  init(
    _ name: String, _ interface: MigrationInterface, contents: [UInt8], precopyLimit: Int = 0,
    plan: CallPlan
  ) {
    self.name = name
    self.interface = interface
    self.contents = contents
    self.precopyLimit = precopyLimit
    self.plan = plan
  }

  private func call(_ operation: String) throws(DeviceError) {
    if plan.call("\(name) \(operation)") {
      throw DeviceError(object: name, operation: operation, errno: .eio)
    }
  }

  private func move(_ next: DeviceState) {
    state = next
    observedStates.append(next)
  }

  func beginPrecopy() throws(DeviceError) {
    try call("beginPrecopy")
    given = 0
    observedStates = [state]
    if state == .running, interface.hasPrecopy { move(.precopy) }
  }

  func nextChunk(
    into buffer: inout [UInt8], byteCountMax: Int
  ) throws(DeviceError) -> ChunkOutcome {
    try call("nextChunk")
    buffer.removeAll(keepingCapacity: true)
    guard state.isSaving else { return .drainedForNow }
    let limit = state == .stopCopy ? contents.count : min(precopyLimit, contents.count)
    guard given < limit else {
      return state == .stopCopy && !runsDryInStopCopy ? .end : .drainedForNow
    }
    let end = min(limit, given + min(byteCountMax, 120))
    buffer.append(contentsOf: contents[given..<end])
    given = end
    return .chunk
  }

  func pendingEstimate() -> PendingEstimate {
    estimateCount += 1
    guard estimates else { return .unknown }
    let precopy = precopyEstimate()
    return PendingEstimate(
      precopyInitialBytes: precopy.precopyInitialBytes,
      stopCopyBytes: UInt64(contents.count - given),
      initialDataRestarted: precopy.initialDataRestarted)
  }

  func precopyEstimate() -> PendingEstimate {
    guard estimates, state.isPrecopy else { return .unknown }
    if state == .precopyP2P, lateInitialCount > 0 {
      lateInitialCount -= 1
      return PendingEstimate(precopyInitialBytes: 77, initialDataRestarted: true)
    }
    let precopy = max(0, min(precopyLimit, contents.count) - given)
    return PendingEstimate(precopyInitialBytes: UInt64(precopy))
  }

  func enterP2P() throws(DeviceError) {
    lastDMA?()
    try call("enterP2P")
    guard interface.hasP2P, state != .stop else { return }
    move(state == .precopy ? .precopyP2P : .runningP2P)
  }

  func leaveP2P() throws(DeviceError) {
    try call("leaveP2P")
    if state == .precopyP2P { move(.precopy) }
    if state == .runningP2P { move(.running) }
  }

  func beginStopCopy() throws(DeviceError) {
    if !interface.hasP2P { lastDMA?() }
    try call("beginStopCopy")
    move(.stopCopy)
  }

  func finishSaving() throws(DeviceError) {
    try call("finishSaving")
    move(.stop)
  }

  func stop() throws(DeviceError) {
    try call("stop")
    move(.stop)
  }

  func beginResuming() throws(DeviceError) {
    try call("beginResuming")
    observedStates = [state]
    contents = []
    loading = []
    move(.resuming)
  }

  func load(_ chunk: RawSpan) throws(DeviceError) {
    try call("load")
    unsafe loading.append(contentsOf: chunk.withUnsafeBytes { unsafe Array($0) })
  }

  func finishResuming() throws(DeviceError) {
    try call("finishResuming")
    contents = loading
    move(.stop)
  }

  func prepareToRun() throws(DeviceError) {
    try call("prepareToRun")
    if interface.hasP2P { move(.runningP2P) }
  }

  func run() throws(DeviceError) {
    try call("run")
    move(.running)
  }

  func recover() throws(DeviceError) -> DeviceRecovery {
    try call("recover")
    if recoversInNameOnly { return .running }
    let keeps = state != .resuming && state != .error
    move(.running)
    return keeps ? .running : .reset(because: nil)
  }

  var hasConfiguration: Bool { interface != .v1 }

  func saveConfiguration() throws(DeviceError) -> [UInt8]? {
    try call("saveConfiguration")
    return interface == .v1 ? nil : Array("configuration of \(name)".utf8)
  }

  private(set) var configuration: [UInt8] = []

  func restoreConfiguration(_ bytes: RawSpan) throws(DeviceError) {
    try call("restoreConfiguration")
    configuration = unsafe bytes.withUnsafeBytes { unsafe Array($0) }
  }
}

/// A VMM that does what it is asked.
final class ScriptedMachine: MigratingMachine, @unchecked Sendable {
  let plan: CallPlan
  let name: String
  var isRunning: Bool
  var state: [UInt8]
  /// As a VMM's notifier: called from inside the calls, when wired.
  var notifier: ((VMState) -> Void)?
  var onResume: (() -> Void)?
  var canThrottle = true
  private(set) var throttledPercent = 0

  init(_ name: String, isRunning: Bool, state: [UInt8], plan: CallPlan) {
    self.name = name
    self.isRunning = isRunning
    self.state = state
    self.plan = plan
  }

  private func call(_ operation: String) throws(MachineError) {
    if plan.call("\(name) \(operation)") {
      throw MachineError(operation: operation, detail: "planned")
    }
  }

  func stopVCPUs() throws(MachineError) {
    try call("stopVCPUs")
    isRunning = false
    notifier?(.finishMigrate)
  }

  func resumeVCPUs() throws(MachineError) {
    try call("resumeVCPUs")
    onResume?()
    isRunning = true
    notifier?(.running)
  }

  func throttleVCPUs(percent: Int) throws(MachineError) -> Bool {
    try call("throttleVCPUs \(percent)")
    guard canThrottle else { return false }
    throttledPercent = percent
    return true
  }

  func saveState() throws(MachineError) -> [UInt8] {
    try call("saveState")
    return state
  }

  func restoreState(_ bytes: [UInt8]) throws(MachineError) {
    try call("restoreState")
    state = bytes
  }
}

extension MemoryLink {
  /// One whose calls are counted, and fail, as those of the rest of a world.
  convenience init(plan: CallPlan, isBidirectional: Bool = true) {
    self.init(isBidirectional: isBidirectional) { plan.call($0) }
  }
}
