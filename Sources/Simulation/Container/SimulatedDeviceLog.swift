public import Addressing
public import DMAContainer
public import PageBitmap
import Locking

/// A device's own log of its DMA writes (VFIO_DEVICE_FEATURE_DMA_LOGGING_*): ranges fixed at start,
/// by IOVA and independent of mappings, read and cleared in one.
///
/// States: off -> started -> off; in started, an error is sticky: every query fails with EIO until
/// the log is stopped.
public final class SimulatedDeviceLog: DirtyLog {
  private struct State {
    var ranges: [IOVARange] = []
    var isBroken = false
    var dirty = PageSet()
    var pageSize = PageSize.fourKiB
  }

  public let name: String
  public let capabilities: DirtyLogCapabilities
  /// Bytes all ranges may hold together (2^42 on mlx5, by QEMU's account); nil: no limit.
  public let spanByteCountMax: UInt64?
  private let faults: FaultPlan?
  private let state = Mutex(State())

  public init(
    name: String, rangeCountMax: Int = Limits.deviceLogRangeCountMax,
    spanByteCountMax: UInt64? = nil,
    queryBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax, faults: FaultPlan? = nil
  ) {
    self.name = name
    self.spanByteCountMax = spanByteCountMax
    self.faults = faults
    self.capabilities = DirtyLogCapabilities(
      scope: .deviceLog, pageSizes: PageSizeSet(mask: ~0xfff),
      queryBitmapByteCountMax: queryBitmapByteCountMax, mayCrossHoles: true, mayCutMapping: true,
      canPeek: false, rangeCountMax: rangeCountMax, isAskedAfterUnmap: true)
  }

  /// What it logs; empty while off.
  public var loggedRanges: [IOVARange] { state.withLock { $0.ranges } }

  /// The device fails: every query answers EIO until the log is stopped.
  public func injectError() { state.withLock { $0.isBroken = true } }

  public func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    let fault = faults?.take(.startLog)
    if let fault, fault.moment != .after { throw fault.error(.startLog, name) }
    try state.withLock { (state: inout State) throws(ContainerError) in
      guard state.ranges.isEmpty else {
        throw refused(.startLog, nil, ContainerErrno.einval, "it is started already")
      }
      try check(ranges, pageSize)
      state = State(ranges: ranges.sorted { $0.first < $1.first }, pageSize: pageSize)
    }
    if let fault { throw fault.error(.startLog, name) }
  }

  private func check(_ ranges: [IOVARange], _ pageSize: PageSize) throws(ContainerError) {
    let einval = ContainerErrno.einval
    guard !ranges.isEmpty else { throw refused(.startLog, nil, einval, "no range was given") }
    if let countMax = capabilities.rangeCountMax, ranges.count > countMax {
      throw refused(
        .startLog, nil, ContainerErrno.e2big, "\(ranges.count) ranges of at most \(countMax)")
    }
    var previous: IOVARange?
    var bytes: UInt64 = 0
    for range in ranges.sorted(by: { $0.first < $1.first }) {
      guard range.isAligned(to: pageSize) else {
        throw refused(.startLog, range, einval, "not whole pages of \(pageSize)")
      }
      if let previous, previous.overlaps(range) {
        throw refused(.startLog, range, einval, "it overlaps \(previous)")
      }
      previous = range
      let (sum, overflow) = bytes.addingReportingOverflow(range.byteCount ?? UInt64.max)
      bytes = overflow ? UInt64.max : sum
    }
    if let spanByteCountMax, bytes > spanByteCountMax {
      throw refused(
        .startLog, nil, ContainerErrno.eopnotsupp,
        "\(bytes) bytes of at most \(spanByteCountMax)")
    }
  }

  public func stop() throws(ContainerError) {
    let fault = faults?.take(.stopLog)
    if let fault, fault.moment != .after { throw fault.error(.stopLog, name) }
    state.withLock { $0 = State() }
    if let fault { throw fault.error(.stopLog, name) }
  }

  public func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    precondition(clear, "a device log reads and clears in one")
    let fault = faults?.take(.query)
    guard let window = bitmap.window else { return }
    if let fault, fault.moment == .before { throw failed(fault, window) }
    try state.withLock { (state: inout State) throws(ContainerError) in
      guard !state.isBroken else {
        throw refused(.query, window, ContainerErrno.eio, "the device has failed before")
      }
      guard !state.ranges.isEmpty else {
        throw refused(.query, window, ContainerErrno.einval, "it is not started")
      }
      guard UInt64(bitmap.byteCount) <= capabilities.queryBitmapByteCountMax else {
        throw refused(.query, window, ContainerErrno.einval, "the bitmap is too large")
      }
      let pages = SimulatedIOMMU.pages(window)
      let half = pages.lowerBound...(pages.lowerBound + (pages.upperBound - pages.lowerBound) / 2)
      if fault?.moment != .after {
        state.dirty.forEachRun(in: fault == nil ? pages : half) {
          bitmap.insert(SimulatedIOMMU.range($0))
        }
      }
      state.dirty.remove(fault?.moment == .halfway ? half : pages)
    }
    if let fault { throw failed(fault, window) }
  }

  /// A device that fails with EIO goes on failing.
  private func failed(_ fault: FaultPlan.Fault, _ window: IOVARange) -> ContainerError {
    if fault.errno == ContainerErrno.eio { injectError() }
    return refused(.query, window, fault.errno, "a fault of the plan")
  }

  /// The device wrote `range`.
  func record(_ range: IOVARange) {
    state.withLock { state in
      for logged in state.ranges {
        guard let part = logged.intersection(range) else { continue }
        state.dirty.insert(SimulatedIOMMU.pages(part.expanded(to: state.pageSize)))
      }
    }
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32, _ detail: String
  ) -> ContainerError {
    ContainerError(operation, object: name, range: range, errno: errno, detail: detail)
  }
}
