import Addressing
import DMAContainer
import IOVAMapping
import PageBitmap

/// A backend that holds one mapping, lets it be cut, and answers for 64 pages in one unmap.
final class SplittingContainer: DMAContainer {
  let name = "splitting"
  let capabilities = ContainerCapabilities(
    bisectPolicy: .split, mappingCountMax: 1, hasAtomicUnmap: true, unmapBitmapByteCountMax: 8)
  let dirtyLogs: [any DirtyLog] = [Log()]

  func map(_ request: MapRequest) {}
  func unmap(_ range: IOVARange) -> UInt64 { range.byteCount ?? UInt64.max }
  func unmap(reportingInto dirty: inout QueryBitmap) -> UInt64 {
    dirty.markAll()
    return dirty.window?.byteCount ?? 0
  }

  private final class Log: DirtyLog {
    let name = "own log"
    let capabilities = DirtyLogCapabilities(
      scope: .pinned, mayCrossHoles: true, mayCutMapping: false, canPeek: false, granule: .page)
    func start(logging ranges: [IOVARange], pageSize: PageSize) {}
    func stop() {}
    func query(_ bitmap: inout QueryBitmap, clear: Bool) {}
  }
}
