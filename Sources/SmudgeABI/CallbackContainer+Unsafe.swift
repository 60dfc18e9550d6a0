import Addressing
import CSmudge
import DMAContainer
import IOVAMapping
import PageBitmap

/// A container that the VMM maps and unmaps, and whose dirt it is asked for by a C function.
///
/// Unsafe because of the functions and their `opaque`. Sound by the header: they may be called from
/// any thread, one at a time, until the container is removed.
final class CallbackContainer: DMAContainer {
  let name: String
  let capabilities: ContainerCapabilities
  let dirtyLogs: [any DirtyLog]

  init(_ params: smudge_container_params) throws(Failure) {
    name = unsafe try Parameters.string(params.name, "name")
    let limit = unsafe params.mapping_count_max
    capabilities = ContainerCapabilities(
      bisectPolicy: .split, mappingCountMax: limit == 0 ? nil : Int(clamping: limit))
    dirtyLogs = unsafe params.query == nil ? [] : [try CallbackLog(name: name, params)]
  }

  func map(_ request: MapRequest) throws(ContainerError) {}

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 { range.lastOffset &+ 1 }

  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    dirty.window.map { $0.lastOffset &+ 1 } ?? 0
  }
}

/// Asks the VMM.
@safe private final class CallbackLog: DirtyLog, @unchecked Sendable {
  let name: String
  let capabilities: DirtyLogCapabilities
  private let query: smudge_query?
  private let logStart: smudge_log_switch?
  private let logStop: smudge_log_switch?
  private let opaque: UnsafeMutableRawPointer?

  init(name: String, _ params: smudge_container_params) throws(Failure) {
    self.name = "\(name) query"
    unsafe (query, logStart) = (params.query, params.log_start)
    unsafe (logStop, opaque) = (params.log_stop, params.opaque)
    let flags = unsafe params.query_flags
    let known =
      SMUDGE_QUERY_CROSSES_HOLES | SMUDGE_QUERY_CUTS_MAPPINGS | SMUDGE_QUERY_ANSWERS_PINNED
    try Parameters.flags(flags, known: known, "query_flags")
    let limit = unsafe params.query_byte_count_max
    guard limit == 0 || limit >= 8 else {
      throw .misuse("query_byte_count_max is \(limit), and a bitmap has 8 bytes at least")
    }
    func has(_ flag: Int) -> Bool { flags & UInt32(flag) != 0 }
    capabilities = DirtyLogCapabilities(
      scope: has(SMUDGE_QUERY_ANSWERS_PINNED) ? .pinned : .iommuHardware,
      queryBitmapByteCountMax: limit == 0 ? Limits.queryBitmapByteCountMax : limit & ~7,
      mayCrossHoles: has(SMUDGE_QUERY_CROSSES_HOLES),
      mayCutMapping: has(SMUDGE_QUERY_CUTS_MAPPINGS), canPeek: false, granule: .page,
      // Of a range the VMM unmaps: when it says so.
      isAskedAfterUnmap: true)
  }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    guard let logStart = unsafe logStart else { return }
    let result = Self.calling { unsafe logStart(opaque) }
    if result != 0 { throw refused(.startLog, nil, result) }
  }

  func stop() throws(ContainerError) {
    guard let logStop = unsafe logStop else { return }
    let result = Self.calling { unsafe logStop(opaque) }
    if result != 0 { throw refused(.stopLog, nil, result) }
  }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    guard smudge_thread_has_bitmap() == 0, let window = bitmap.window,
      let query = unsafe query
    else { return }
    let pageSize = bitmap.pageSize
    let last = (window.lastOffset &>> pageSize.shift) & 63
    let words = bitmap.wordCount
    let result = unsafe bitmap.withUnsafeMutableWords { base in
      let result = Self.calling {
        unsafe query(window.first.rawValue, window.lastOffset &+ 1, pageSize.bytes, base, opaque)
      }
      // Bits past the last page mean nothing.
      unsafe base[words - 1] &= UInt64.max &>> (63 &- last)
      return result
    }
    if result != 0 { throw refused(.query, window, result) }
  }

  private static func calling(_ body: () -> Int32) -> Int32 {
    smudge_thread_enter_callback()
    defer { smudge_thread_leave_callback() }
    return body()
  }

  private func refused(
    _ operation: ContainerError.Operation, _ range: IOVARange?, _ result: Int32
  ) -> ContainerError {
    let isErrno = result < 0 && result > -4096
    return ContainerError(
      operation, object: name, range: range, errno: isErrno ? -result : 0,
      detail: isErrno ? "" : "the callback returned \(result)")
  }
}
