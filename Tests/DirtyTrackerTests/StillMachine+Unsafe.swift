import Addressing
import DeviceMigration
import GuestDirtyLog

/// A VM that does nothing, for a migration of which only the tracker matters.
final class StillMachine: MigratingMachine {
  private(set) var isRunning = true
  var whileSaving: () -> Void = {}
  func stopVCPUs() { isRunning = false }
  func resumeVCPUs() { isRunning = true }
  func saveState() -> [UInt8] {
    whileSaving()
    return [1]
  }
  func restoreState(_ bytes: [UInt8]) {}
}

/// Memory whose every byte is 1.
///
/// Unsafe because the bytes of a typed span may hold anything. Sound because these are bytes.
final class OnesMemory: GuestMemory {
  func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R? {
    let bytes = [UInt8](repeating: 1, count: Int(range.lastOffset) + 1)
    return try unsafe body(bytes.span.bytes)
  }

  func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R? { nil }
}

/// A channel one way, into nothing.
final class Sink: ByteChannel {
  let name = "sink"
  let isBidirectional = false
  func write(_ bytes: RawSpan) {}
  func read(into buffer: inout MutableRawSpan) -> Int { 0 }
  func shutDown() {}
}
