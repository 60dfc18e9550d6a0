public import Addressing
import CSmudgeLinux
public import DMAContainer
import Locking
public import PageBitmap

/// A device's own log of its DMA writes, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, STOP and REPORT
/// (Linux 6.1): by IOVA, in ranges fixed at the start, whether mapped or not. Read and cleared in
/// one.
///
///     off ── start ──> started ── stop ──> off
///                         │ a report fails          the log is not to be trusted any more:
///                         └──> broken ── stop ──> off    every query fails until it is stopped
///
/// Invariants:
/// 1. After a report that failed no query succeeds before the log was stopped and started.
/// 2. A log that could not be stopped is not started a second time as if it were off, nor one whose
///    start failed: it may be running with the old ranges, and a start that does nothing answers 0.
/// 3. Windows are whole words of 64 of the largest pages that it is trusted with (pds works in
///    words, mlx5 in the page size it chose): a device that chooses larger ones is stopped again,
///    and so is one whose answer is no page size at all. What a log may choose has to be known
///    before its start, since ranges are widened to it: taken for larger, each mapping of 4 KiB
///    would log and report 64 such pages. For a driver that does choose more, say so by
///    `pageSizeMax`.
public final class DeviceDMALog: DirtyLog {
  private enum Course: Sendable {
    case off
    case started
    /// The errno of what failed.
    case broken(Int32)
  }

  private struct State {
    var course = Course.off
    var pageSize: PageSize?
  }

  public let name: String
  private let device: VFIODevice
  private let granule: DirtyLogGranule
  private let state = Mutex(State())

  /// Nil when the device has no such log: one of the three features is missing.
  /// - Parameter pageSizeMax: the largest page the device may choose to log in. Ranges and windows
  ///   are multiples of 64 of them, as the kernel does not say which driver works in words.
  public init?(device: VFIODevice, pageSizeMax: PageSize = DeviceDMALog.pageSizeMaxDefault) {
    guard device.hasFeature(Self.startFeature, .set), device.hasFeature(Self.stopFeature, .set),
      device.hasFeature(Self.reportFeature, .get)
    else { return nil }
    self.device = device
    self.granule = .words(of: pageSizeMax)
    self.name = "\(device.name) DMA log"
  }

  /// Windows of 4 MiB at least: 128 bytes of bitmap.
  public static let pageSizeMaxDefault = PageSize(bytes: 64 << 10) ?? .fourKiB

  private static let startFeature = Int(SMUDGE_VFIO_FEATURE_DMA_LOGGING_START)
  private static let stopFeature = Int(SMUDGE_VFIO_FEATURE_DMA_LOGGING_STOP)
  private static let reportFeature = Int(SMUDGE_VFIO_FEATURE_DMA_LOGGING_REPORT)

  public var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: .deviceLog, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: true,
      mayCutMapping: true, canPeek: false, granule: granule,
      rangeCountMax: Limits.deviceLogRangeCountMax,
      isAskedAfterUnmap: true)
  }

  /// The page size the device logs in, which may be another than was asked for; nil while off.
  public var loggedPageSize: PageSize? { state.withLock { $0.pageSize } }

  public func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    switch state.withLock({ $0.course }) {
    case .off: break
    case .started: throw refused(.startLog, nil, ContainerErrno.einval, "it is started already")
    case .broken(let errno):
      throw refused(.startLog, nil, errno, "it has failed before and was not stopped since")
    }
    var pairs: [smudge_vfio_logging_range] = []
    for range in ranges {
      guard let length = range.byteCount else {
        throw refused(
          .startLog, range, ContainerErrno.eoverflow, "2^64 bytes have no 64-bit size")
      }
      pairs.append(smudge_vfio_logging_range(iova: range.first.rawValue, length: length))
    }
    guard !pairs.isEmpty, pairs.count <= Limits.deviceLogRangeCountMax else {
      throw refused(
        .startLog, nil, pairs.isEmpty ? ContainerErrno.einval : ContainerErrno.e2big,
        "\(pairs.count) ranges, of 1 to \(Limits.deviceLogRangeCountMax)")
    }
    var result = begin(pairs, pageSize)
    if case .failure(let failure) = result, failure.errno == ContainerErrno.eopnotsupp {
      result = beginPadded(pairs, pageSize) ?? result
    }
    /// As the device says it.
    let chosen: UInt64
    switch result {
    case .success(let bytes): chosen = bytes
    case .failure(let failure):
      if !Self.isRefusal(failure.errno) {
        state.withLock { $0.course = .broken(failure.errno) }
      }
      throw refused(.startLog, nil, failure.errno, Self.startDetail(failure.errno))
    }
    state.withLock { $0 = State(course: .started, pageSize: PageSize(bytes: chosen)) }
    guard let chosen = PageSize(bytes: chosen) else {
      try stop()
      throw refused(
        .startLog, nil, 0,
        "the device says that it logs in pages of \(chosen) bytes, which is no size of a page;"
          + " it is stopped again")
    }
    guard chosen <= max(pageSize, granule.pageSize) else {
      try stop()
      throw refused(
        .startLog, nil, 0,
        "the device logs in pages of \(chosen), its user in at most \(granule.pageSize), so that"
          + " bits would be lost; it is stopped again")
    }
  }

  /// Of checks that come before anything is started.
  private static func isRefusal(_ errno: Int32) -> Bool {
    errno == ContainerErrno.e2big || errno == ContainerErrno.eopnotsupp
      || errno == ContainerErrno.enotty
  }

  private struct Failure: Error { let errno: Int32 }

  private func begin(
    _ pairs: [smudge_vfio_logging_range], _ pageSize: PageSize
  ) -> Result<UInt64, Failure> {
    var call = smudge_vfio_feature_logging_start()
    call.feature = VFIODevice.envelope(
      Self.startFeature, .set, smudge_vfio_feature_logging_start.self)
    call.page_size = pageSize.bytes
    call.num_ranges = UInt32(pairs.count)
    let result = RequestBytes.withAddress(of: pairs) { address in
      call.ranges = address
      return device.descriptor.control(.deviceFeature, &call)
    }
    guard result >= 0 else { return .failure(Failure(errno: -result)) }
    return .success(call.page_size)
  }

  /// EOPNOTSUPP also means that the ranges hold too few bytes, and not how many it takes: the last
  /// one is made longer. What is not mapped is not written.
  /// - Returns: nil when the ranges are large already.
  private func beginPadded(
    _ pairs: [smudge_vfio_logging_range], _ pageSize: PageSize
  ) -> Result<UInt64, Failure>? {
    var sum: UInt64 = 0
    for pair in pairs { sum = sum &+ min(pair.length, 1 << 48) }
    guard let last = pairs.last else { return nil }
    var outcome: Result<UInt64, Failure>?
    for shift in [24, 28, 32, 36] as [UInt64] where sum < 1 << shift {
      let more = (1 << shift) - sum
      let end = last.iova.addingReportingOverflow(last.length &+ more)
      guard !end.overflow else { break }
      var padded = pairs
      padded[padded.count - 1].length = last.length &+ more
      let result = begin(padded, pageSize)
      outcome = result
      if case .failure(let failure) = result, failure.errno == ContainerErrno.eopnotsupp {
        continue
      }
      break
    }
    return outcome
  }

  /// Also when nothing was started as far as is known: a start that failed may have begun.
  public func stop() throws(ContainerError) {
    var call = VFIODevice.envelope(Self.stopFeature, .set, smudge_vfio_feature.self)
    let result = device.descriptor.control(.deviceFeature, &call)
    guard result >= 0 else {
      state.withLock { $0.course = .broken(-result) }
      throw refused(.stopLog, nil, -result, "")
    }
    state.withLock { $0 = State() }
  }

  public func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    precondition(clear, "a device log reads and clears in one")
    guard let window = bitmap.window else {
      throw refused(.query, nil, ContainerErrno.einval, "no range was given")
    }
    switch state.withLock({ $0.course }) {
    case .started: break
    case .off: throw refused(.query, window, ContainerErrno.einval, "it is not started")
    case .broken(let errno):
      throw refused(
        .query, window, errno,
        "the device's log has failed before and means nothing until it is "
          + "started anew")
    }
    guard let length = window.byteCount else {
      throw refused(.query, window, ContainerErrno.eoverflow, "2^64 bytes have no 64-bit size")
    }
    var call = smudge_vfio_feature_logging_report()
    call.feature = VFIODevice.envelope(
      Self.reportFeature, .get, smudge_vfio_feature_logging_report.self)
    call.iova = window.first.rawValue
    call.length = length
    call.page_size = bitmap.pageSize.bytes
    let result = KernelBitmap.withAddress(&bitmap) { address in
      call.bitmap = address
      return device.descriptor.control(.deviceFeature, &call)
    }
    guard result >= 0 else {
      state.withLock { $0.course = .broken(-result) }
      throw refused(
        .query, window, -result, "the device's log means nothing until it is started anew")
    }
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ errno: Int32, _ detail: String
  ) -> ContainerError {
    ContainerError(operation, object: name, range: range, errno: errno, detail: detail)
  }

  private static func startDetail(_ errno: Int32) -> String {
    switch errno {
    case ContainerErrno.einval: "a range is not of whole pages, ranges overlap, or it is on already"
    case ContainerErrno.e2big: "more ranges than the kernel takes"
    case ContainerErrno.eopnotsupp: "more bytes than the device can log, or too few"
    case ContainerErrno.eexist: "it is on already"
    default: ""
    }
  }
}
