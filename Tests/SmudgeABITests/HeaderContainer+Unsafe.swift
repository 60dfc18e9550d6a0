import Addressing
import CSmudge
import DMAContainer
import PageBitmap

/// A container behind smudge.h and back: what its inner container, the VMM's own, answers goes into
/// the library by a query callback and by the bitmap of an unmap, and comes out of it as harvests.
/// So the suite that every container keeps holds the library.
///
/// The library's index is the IOVA itself, moved by ``indexOffset``: a page is known by where it is
/// mapped, as the suite asks.
///
/// Unsafe because it is C with callbacks. Sound because every pointer is to a local or to this
/// object, which outlives its tracker.
@safe final class HeaderContainer: DMAContainer, @unchecked Sendable {
  enum Fault: CaseIterable { case none, emptyBitmaps, emptyAnswers, noUnmap }

  static let indexOffset: UInt64 = 1 << 40
  static let pageCount: UInt64 = 0x400

  let inner: any DMAContainer
  let fault: Fault
  private var tracker: OpaquePointer?
  private var container: OpaquePointer?
  private var reader: OpaquePointer?
  /// IOVA pages that came out of the library and were not asked for yet.
  private var found: Set<UInt64> = []

  var name: String { "header" }
  var capabilities: ContainerCapabilities { inner.capabilities }
  var dirtyLogs: [any DirtyLog] { [HeaderLog(self)] }

  init(_ inner: any DMAContainer, fault: Fault = .none) {
    self.inner = inner
    self.fault = fault
    var params = smudge_tracker_params()
    params.size = UInt32(MemoryLayout<smudge_tracker_params>.size)
    params.pinned_pages = UInt32(SMUDGE_PINNED_EVERY_ROUND)
    unsafe expect(smudge_tracker_create(&params, &tracker))
    unsafe "ram".withCString { name in
      var ram = unsafe smudge_ram()
      unsafe ram.size = UInt32(MemoryLayout<smudge_ram>.size)
      unsafe (ram.gpa, ram.byte_count) = (Self.indexOffset, Self.pageCount << 12)
      unsafe ram.name = name
      unsafe expect(smudge_region_add(tracker, &ram))
    }
    unsafe "inner".withCString { name in
      var own = unsafe containerParams(name: name)
      unsafe expect(smudge_container_add(tracker, &own, &container))
    }
  }

  deinit { unsafe expect(smudge_tracker_destroy(tracker)) }

  private func containerParams(name: UnsafePointer<CChar>) -> smudge_container_params {
    var params = unsafe smudge_container_params()
    unsafe params.size = UInt32(MemoryLayout<smudge_container_params>.size)
    unsafe params.name = name
    unsafe params.opaque = Unmanaged.passUnretained(self).toOpaque()
    unsafe params.query = { iova, byteCount, _, words, opaque in
      unsafe HeaderContainer.of(opaque).query(iova, byteCount, words)
    }
    unsafe params.log_start = { unsafe HeaderContainer.of($0).switchLogs(on: true) }
    unsafe params.log_stop = { unsafe HeaderContainer.of($0).switchLogs(on: false) }
    let logs = inner.dirtyLogs.map(\.capabilities)
    var flags = 0
    if logs.allSatisfy(\.mayCrossHoles) { flags |= SMUDGE_QUERY_CROSSES_HOLES }
    if logs.allSatisfy(\.mayCutMapping) { flags |= SMUDGE_QUERY_CUTS_MAPPINGS }
    if logs.contains(where: { $0.scope == .pinned }) { flags |= SMUDGE_QUERY_ANSWERS_PINNED }
    unsafe params.query_flags = UInt32(flags)
    return unsafe params
  }

  private static func of(_ opaque: UnsafeMutableRawPointer?) -> HeaderContainer {
    guard let opaque = unsafe opaque else { preconditionFailure("opaque is handed back") }
    return unsafe Unmanaged<HeaderContainer>.fromOpaque(opaque).takeUnretainedValue()
  }

  private func expect(_ result: Int32) {
    precondition(result >= 0, unsafe String(cString: smudge_last_error()))
  }

  // MARK: what the library asks

  private func switchLogs(on: Bool) -> Int32 {
    do throws(ContainerError) {
      for log in inner.dirtyLogs {
        if on { try log.start(logging: [], pageSize: .fourKiB) } else { try log.stop() }
      }
      return 0
    } catch {
      return -error.errno
    }
  }

  private func query(
    _ iova: UInt64, _ byteCount: UInt64, _ words: UnsafeMutablePointer<UInt64>?
  ) -> Int32 {
    guard let words = unsafe words, let window = IOVARange(first: IOVA(iova), byteCount: byteCount)
    else { return -ContainerErrno.einval }
    do throws(ContainerError) {
      var bitmap = Self.bitmap(window)
      for log in inner.dirtyLogs { try log.query(&bitmap, clear: true) }
      guard fault != .emptyAnswers else { return 0 }
      bitmap.forEachDirtyWord { unsafe words[$0] |= $1 }
      return 0
    } catch {
      return -error.errno
    }
  }

  private static func bitmap(_ window: IOVARange) -> QueryBitmap {
    do throws(PageBitmapError) {
      let byteCount = QueryBitmap.byteCount(window: window, pageSize: .fourKiB) ?? 8
      var bitmap = try QueryBitmap(byteCountMax: byteCount)
      try bitmap.reset(window: window, pageSize: .fourKiB)
      return bitmap
    } catch {
      preconditionFailure("\(error)")
    }
  }

  // MARK: the container

  /// Nothing writes between the inner map and its telling: it is told ahead of every write.
  func map(_ request: MapRequest) throws(ContainerError) {
    try inner.map(request)
    let permissions = request.permissions
    let flags =
      (permissions.contains(.read) ? SMUDGE_MAP_READ : 0)
      | (permissions.contains(.write) ? SMUDGE_MAP_WRITE : 0) | SMUDGE_MAP_AHEAD
    let first = request.iova.first.rawValue
    unsafe expect(
      smudge_map(
        container, first, first + Self.indexOffset, request.iova.lastOffset + 1, UInt32(flags)))
  }

  func unmap(_ range: IOVARange) throws(ContainerError) -> UInt64 {
    let byteCount = try inner.unmap(range)
    tellUnmapped(Self.bitmap(range))
    return byteCount
  }

  func unmap(reportingInto dirty: inout QueryBitmap) throws(ContainerError) -> UInt64 {
    guard let window = dirty.window else { return 0 }
    var own = Self.bitmap(window)
    let byteCount = try inner.unmap(reportingInto: &own)
    tellUnmapped(own)
    take(into: &dirty)
    return byteCount
  }

  private func tellUnmapped(_ dirty: borrowing QueryBitmap) {
    guard let window = dirty.window, fault != .noUnmap else { return }
    var words = [UInt64](repeating: 0, count: dirty.wordCount)
    if fault != .emptyBitmaps { dirty.forEachDirtyWord { words[$0] = $1 } }
    unsafe expect(smudge_unmap(container, window.first.rawValue, window.lastOffset + 1, words))
  }

  // MARK: the log

  /// A new log begins clean, so it has a new reader.
  fileprivate func startLog() {
    if unsafe reader != nil { unsafe expect(smudge_reader_remove(reader)) }
    found = []
    unsafe expect(smudge_reader_add(tracker, "suite", 0, &reader))
    unsafe expect(smudge_log_start(tracker, nil))
  }

  fileprivate func stopLog() { unsafe expect(smudge_log_stop(tracker, nil)) }

  fileprivate func sync(into bitmap: inout QueryBitmap) {
    unsafe expect(smudge_log_sync(tracker, 0, nil))
    take(into: &bitmap)
  }

  private func take(into bitmap: inout QueryBitmap) {
    var words = [UInt64](repeating: 0, count: Int(Self.pageCount / 64))
    var harvest: UInt64 = 0
    unsafe expect(
      smudge_harvest_bitmap(reader, Self.indexOffset, &words, Self.pageCount, nil, &harvest))
    if harvest != 0 { unsafe expect(smudge_delivered(reader, harvest)) }
    for page in 0..<Self.pageCount where words[Int(page / 64)] >> (page % 64) & 1 != 0 {
      found.insert(page)
    }
    guard let window = bitmap.window else { return }
    for page in found where window.contains(IOVA(page << 12)) {
      found.remove(page)
      bitmap.insert(AddressRange(first: IOVA(page << 12), last: IOVA(page << 12 | 0xfff)))
    }
  }
}

/// The log of a ``HeaderContainer``: any window, since the library cuts its own.
final class HeaderLog: DirtyLog {
  private let container: HeaderContainer
  let name = "header log"
  let capabilities: DirtyLogCapabilities

  init(_ container: HeaderContainer) {
    self.container = container
    let inner = container.inner.dirtyLogs.map(\.capabilities)
    capabilities = DirtyLogCapabilities(
      scope: inner.contains { $0.scope == .pinned } ? .pinned : .iommuHardware,
      mayCrossHoles: true, mayCutMapping: true, canPeek: false, granule: .page)
  }

  func start(logging ranges: [IOVARange], pageSize: PageSize) throws(ContainerError) {
    container.startLog()
  }

  func stop() throws(ContainerError) { container.stopLog() }

  func query(_ bitmap: inout QueryBitmap, clear: Bool) throws(ContainerError) {
    container.sync(into: &bitmap)
  }
}
