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
/// 2. A log that could not be stopped is not started a second time as if it were off.
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
  private let state = Mutex(State())

  /// Nil when the device has no such log: one of the three features is missing.
  public init?(device: VFIODevice) {
    guard device.hasFeature(Self.startFeature, .set), device.hasFeature(Self.stopFeature, .set),
      device.hasFeature(Self.reportFeature, .get)
    else { return nil }
    self.device = device
    self.name = "\(device.name) DMA log"
  }

  private static let startFeature = Int(SMUDGE_VFIO_FEATURE_DMA_LOGGING_START)
  private static let stopFeature = Int(SMUDGE_VFIO_FEATURE_DMA_LOGGING_STOP)
  private static let reportFeature = Int(SMUDGE_VFIO_FEATURE_DMA_LOGGING_REPORT)

  public var capabilities: DirtyLogCapabilities {
    DirtyLogCapabilities(
      scope: .deviceLog, pageSizes: PageSizeSet(mask: ~0xfff), mayCrossHoles: true,
      mayCutMapping: true, canPeek: false, rangeCountMax: Limits.deviceLogRangeCountMax,
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
    var call = smudge_vfio_feature_logging_start()
    call.feature = VFIODevice.envelope(
      Self.startFeature, .set, smudge_vfio_feature_logging_start.self)
    call.page_size = pageSize.bytes
    call.num_ranges = UInt32(pairs.count)
    let result = RequestBytes.withAddress(of: pairs) { address in
      call.ranges = address
      return device.descriptor.control(.deviceFeature, &call)
    }
    guard result >= 0 else {
      throw refused(.startLog, nil, -result, Self.startDetail(-result))
    }
    let chosen = PageSize(bytes: call.page_size) ?? pageSize
    state.withLock { $0 = State(course: .started, pageSize: chosen) }
  }

  /// Also when nothing was started as far as is known: a start that failed may have begun.
  public func stop() throws(ContainerError) {
    var call = VFIODevice.envelope(Self.stopFeature, .set, smudge_vfio_feature.self)
    let result = device.descriptor.control(.deviceFeature, &call)
    guard result >= 0 else {
      state.withLock { state in
        if case .off = state.course { return }
        state.course = .broken(-result)
      }
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
    case ContainerErrno.eopnotsupp: "more bytes than the device can log"
    case ContainerErrno.eexist: "it is on already"
    default: ""
    }
  }
}
