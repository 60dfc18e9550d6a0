public import Addressing
public import DMAContainer
public import PageBitmap
import Locking

/// A device's own log of its DMA writes (VFIO_DEVICE_FEATURE_DMA_LOGGING_*): ranges fixed at start,
/// by IOVA and independent of mappings, read and cleared in one.
///
/// With a granule it has the arithmetic of drivers that work in larger pieces, and loses what their
/// users lose who ask for parts of such a piece:
/// - Words of several pages (pds): a query reads and clears whole words, counted from the beginning
///   of the logged range; the first bit of its first word is given out as the window's first page.
///   A range of fewer pages than a word is refused.
/// - Larger pages (mlx5): chosen at the start. A query clears every such page it touches, and
///   reports the part of it that lies in the window.
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
  /// Bytes they must hold together.
  public let spanByteCountMin: UInt64
  private let granule: DirtyLogGranule
  /// A start of a started log does nothing, so that the old ranges stay, and answers 0.
  private let ignoresSecondStart: Bool
  private let faults: FaultPlan?
  private let state = Mutex(State())

  /// - Parameter statesGranule: false: it keeps its granule to itself, a fault that loses pages.
  public init(
    name: String, rangeCountMax: Int = Limits.deviceLogRangeCountMax,
    spanByteCountMax: UInt64? = nil, spanByteCountMin: UInt64 = 0,
    queryBitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax,
    granule: DirtyLogGranule = .page, statesGranule: Bool = true,
    ignoresSecondStart: Bool = false, faults: FaultPlan? = nil
  ) {
    self.granule = granule
    self.name = name
    self.ignoresSecondStart = ignoresSecondStart
    self.spanByteCountMax = spanByteCountMax
    self.spanByteCountMin = spanByteCountMin
    self.faults = faults
    self.capabilities = DirtyLogCapabilities(
      scope: .deviceLog, pageSizes: PageSizeSet(mask: ~0xfff),
      queryBitmapByteCountMax: queryBitmapByteCountMax, mayCrossHoles: true, mayCutMapping: true,
      canPeek: false, granule: statesGranule ? granule : .page, rangeCountMax: rangeCountMax,
      isAskedAfterUnmap: true)
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
        if ignoresSecondStart { return }
        throw refused(.startLog, nil, ContainerErrno.einval, "it is started already")
      }
      try check(ranges, pageSize)
      state = State(
        ranges: ranges.sorted { $0.first < $1.first },
        pageSize: max(pageSize, granule.pageSize))
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
      guard range.pageCount(pageSize) >= granule.pageCount else {
        throw refused(
          .startLog, range, ContainerErrno.eopnotsupp,
          "fewer than \(granule.pageCount) pages")
      }
      if let previous, previous.overlaps(range) {
        throw refused(.startLog, range, einval, "it overlaps \(previous)")
      }
      previous = range
      let (sum, overflow) = bytes.addingReportingOverflow(range.byteCount ?? UInt64.max)
      bytes = overflow ? UInt64.max : sum
    }
    if bytes < spanByteCountMin {
      throw refused(
        .startLog, nil, ContainerErrno.eopnotsupp, "\(bytes) bytes of at least \(spanByteCountMin)")
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
      guard let piece = piece(of: window, state) else {
        throw refused(.query, window, ContainerErrno.einval, "it begins outside what is logged")
      }
      let pages = piece.pages
      let half = pages.lowerBound...(pages.lowerBound + (pages.upperBound - pages.lowerBound) / 2)
      if fault?.moment != .after {
        state.dirty.forEachRun(in: fault == nil ? pages : half) { run in
          let shift = piece.firstPageGivenOut &- pages.lowerBound
          bitmap.insert(
            SimulatedIOMMU.range(run.lowerBound &+ shift...run.upperBound &+ shift))
        }
      }
      state.dirty.remove(fault?.moment == .halfway ? half : pages)
    }
    if let fault { throw failed(fault, window) }
  }

  /// What a query of a window reads and clears, and the page that the first of it is taken for.
  private func piece(
    of window: IOVARange, _ state: State
  ) -> (pages: ClosedRange<UInt64>, firstPageGivenOut: UInt64)? {
    let asked = SimulatedIOMMU.pages(window.expanded(to: state.pageSize))
    let word = granule.pageCount << (state.pageSize.shift - 12)
    guard granule.pageCount > 1 else { return (asked, asked.lowerBound) }
    guard let range = state.ranges.first(where: { $0.contains(window.first) }) else { return nil }
    let origin = range.first.rawValue >> 12
    let first = origin + (asked.lowerBound - min(origin, asked.lowerBound)) / word * word
    let count = (asked.upperBound - asked.lowerBound + word) / word * word
    return (first...min(first + count - 1, range.last.rawValue >> 12), asked.lowerBound)
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
