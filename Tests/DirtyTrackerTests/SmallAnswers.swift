import Addressing
import DMAContainer
import PageBitmap

/// A container whose unmap answers for 64 pages, and whose log is a device's that answers for all.
final class SmallAnswers: DMAContainer {
  let name = "small answers"
  let capabilities = ContainerCapabilities(hasAtomicUnmap: true, unmapBitmapByteCountMax: 8)
  let dirtyLogs: [any DirtyLog] = []

  func map(_ request: MapRequest) {}
  func unmap(_ range: IOVARange) -> UInt64 { 0 }
  func unmap(reportingInto dirty: inout QueryBitmap) -> UInt64 { 0 }
}
