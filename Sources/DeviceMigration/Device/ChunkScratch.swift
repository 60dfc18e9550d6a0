import Locking

/// Memory a device is read into before the bytes that came are appended to the caller's buffer:
/// initialised once, so that asking for 1 MiB and getting 100 bytes costs 100 bytes.
final class ChunkScratch: Sendable {
  private let bytes = Mutex<[UInt8]>([])

  /// Has the memory before it is needed: a first read would wait for the kernel to clear the pages.
  func prepare(_ byteCount: Int) {
    bytes.withLock { bytes in
      if bytes.count < byteCount { bytes = [UInt8](repeating: 0, count: byteCount) }
    }
  }

  /// Calls `body` with exactly `byteCount` bytes, then appends as many of them as it says.
  func read<R: Sendable>(
    _ byteCount: Int, into buffer: inout [UInt8],
    _ body: (inout MutableRawSpan) throws(DeviceError) -> (R, Int)
  ) throws(DeviceError) -> R {
    try bytes.withLock { (bytes: inout [UInt8]) throws(DeviceError) -> R in
      if bytes.count < byteCount { bytes = [UInt8](repeating: 0, count: byteCount) }
      let (result, count) = try DeviceBytes.writing(&bytes, first: byteCount, body)
      buffer.append(contentsOf: bytes[..<count])
      return result
    }
  }
}
