import Addressing
import DeviceMigration
import Glibc
import GuestDirtyLog
import MigrationTransport

/// Bytes through a channel, for tests. Sound because the spans are those of whole arrays.
extension ByteChannel {
  func send(_ bytes: [UInt8]) throws(ChannelError) { try write(unsafe bytes.span.bytes) }

  /// Up to `count` bytes, fewer only at the end.
  func receive(_ count: Int) throws(ChannelError) -> [UInt8] {
    var result: [UInt8] = []
    while result.count < count {
      var part = [UInt8](repeating: 0, count: count - result.count)
      let read = try receive(into: &part)
      if read == 0 { break }
      result += part[0..<read]
    }
    return result
  }

  /// What one read gives.
  func receiveSome(_ count: Int) throws(ChannelError) -> [UInt8] {
    var part = [UInt8](repeating: 0, count: count)
    let read = try receive(into: &part)
    return Array(part[0..<read])
  }

  private func receive(into part: inout [UInt8]) throws(ChannelError) -> Int {
    var span = part.mutableSpan
    var bytes = unsafe span.mutableBytes
    return try read(into: &bytes)
  }
}

/// Guest memory of one region. Sound because every range is checked, and the two threads of a test
/// each have their own.
@safe final class HeapMemory: GuestMemory, @unchecked Sendable {
  let region: RAMRegion
  private let base: UnsafeMutableRawBufferPointer

  init(byteCount: Int) {
    region = RAMRegion(name: "ram", gpa: GPARange(first: GPA(0), byteCount: UInt64(byteCount))!)
    unsafe base = .allocate(byteCount: byteCount, alignment: 4096)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit { unsafe base.deallocate() }

  func fill(_ next: () -> UInt64) {
    for offset in stride(from: 0, to: unsafe base.count, by: 512) {
      unsafe base.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
    }
  }

  func isSame(_ other: HeapMemory) -> Bool {
    guard unsafe base.count == other.base.count, let left = unsafe base.baseAddress,
      let right = unsafe other.base.baseAddress
    else { return false }
    return unsafe memcmp(left, right, base.count) == 0
  }

  func withBytes<R, E: Error>(
    of range: GPARange, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard region.gpa.contains(range) else { return nil }
    let part = unsafe UnsafeRawBufferPointer(
      rebasing: base[Int(range.first.rawValue)...Int(range.last.rawValue)])
    return try body(unsafe part.bytes)
  }

  func withMutableBytes<R, E: Error>(
    of range: GPARange, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R? {
    guard region.gpa.contains(range) else { return nil }
    let part = unsafe UnsafeMutableRawBufferPointer(
      rebasing: base[Int(range.first.rawValue)...Int(range.last.rawValue)])
    var span = unsafe part.mutableBytes
    return try body(&span)
  }
}

enum Descriptors {
  /// A pipe: reading end, writing end.
  static func pipe() -> (Int32, Int32) {
    var pair: [Int32] = [-1, -1]
    precondition(unsafe Glibc.pipe(&pair) == 0)
    return (pair[0], pair[1])
  }

  /// The smallest pipe there is: one page.
  static func shrink(_ pipe: Int32) {
    let setPipeSize: Int32 = 1031
    precondition(fcntl(pipe, setPipeSize, 4096) == 4096)
  }

  /// From which something comes as soon as a file is made in the folder.
  static func watch(_ folder: String) -> Int32 {
    let descriptor = inotify_init1(Int32(IN_CLOEXEC))
    let watch = unsafe inotify_add_watch(descriptor, folder, UInt32(IN_CREATE))
    precondition(watch >= 0)
    return descriptor
  }

  /// A path nobody else has.
  static func temporaryPath(_ name: String) -> String {
    "/tmp/smudge-\(getpid())-\(UInt64.random(in: 0...UInt64.max))-\(name)"
  }

  static func remove(_ path: String) { _ = unsafe unlink(path) }
  static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }
}
