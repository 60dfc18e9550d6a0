import CBenchPeers
import CBitmapKernels
import Foundation
import PageBitmap

/// The bytes, for what moves them through a socket.
///
/// Unsafe because of addresses; sound because each use is checked against the size, and each thread
/// that uses them is waited for.
extension Words {
  var byteCount: Int { count * 8 }

  func withBytes<R, E: Error>(
    _ offset: Int, _ length: Int, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    precondition(offset >= 0 && length <= byteCount - offset, "the bytes lie outside")
    return try unsafe body(UnsafeRawBufferPointer(start: bytes + offset, count: length).bytes)
  }

  func withMutableBytes<R, E: Error>(
    _ offset: Int, _ length: Int, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R {
    precondition(offset >= 0 && length <= byteCount - offset, "the bytes lie outside")
    let room = unsafe UnsafeMutableRawBufferPointer(start: bytes + offset, count: length)
    var span = unsafe room.mutableBytes
    return try body(&span)
  }

  /// ORed into the bitmap, which is clean and of this size, as a backend's answer is.
  func copy(into bitmap: inout QueryBitmap) {
    precondition(bitmap.byteCount == byteCount, "one bit a page")
    unsafe bitmap.withUnsafeMutableWords { words in
      unsafe bench_copy(words, bytes, byteCount)
    }
  }

  func population() -> UInt64 {
    unsafe smudge_bitmap_population(bytes.assumingMemoryBound(to: UInt64.self), count)
  }

  func isEqual(to other: Words) -> Bool {
    unsafe count == other.count && memcmp(bytes, other.bytes, byteCount) == 0
  }

  /// Writes all of `source` into a socket pair, a MiB a call, while a thread reads it into
  /// `target`.
  static func sendPlainly(_ source: Words, to target: Words) {
    precondition(source.count == target.count, "equal sizes")
    var ends: [Int32] = [0, 0]
    let made = unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
    precondition(made == 0, "a socket pair")
    let (near, far) = (ends[0], ends[1])
    let done = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      let failure = unsafe bench_read_all(far, target.bytes, target.byteCount, 1 << 20)
      precondition(failure == 0, "the plain loop read everything")
      done.signal()
    }
    let failure = unsafe bench_write_all(near, source.bytes, source.byteCount, 1 << 20)
    precondition(failure == 0, "the plain loop wrote everything")
    done.wait()
    close(near)
    close(far)
  }
}
