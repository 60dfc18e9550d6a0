import CSmudgeLinux
import CTestLinux
import Glibc

/// Descriptors for tests. Sound because every buffer is a local or an array.
enum Descriptors {
  /// A pipe: reading end, writing end.
  static func pipe() -> (Int32, Int32) {
    var pair: [Int32] = [-1, -1]
    precondition(unsafe Glibc.pipe(&pair) == 0, "no pipe")
    return (pair[0], pair[1])
  }

  static func close(_ descriptors: Int32...) {
    for descriptor in descriptors { Glibc.close(descriptor) }
  }

  /// Whether a file could be cut to nothing.
  static func shrink(_ descriptor: Int32) -> Bool { ftruncate(descriptor, 0) == 0 }

  /// A memfd with a name by which ``openCount(_:)`` finds it.
  static func memory(_ name: String, byteCount: UInt64 = 4096) -> Int32 {
    let descriptor = unsafe name.withCString { unsafe smudge_test_memory($0, byteCount, 1) }
    precondition(descriptor >= 0, "no memfd")
    return descriptor
  }

  /// How many descriptors of this process are memfds of this name. Other tests of this process run
  /// at the same time, so descriptors are not just counted.
  static func openCount(_ name: String) -> Int {
    var count = 0
    for descriptor in 0..<4096 as Range<Int32> where fcntl(descriptor, F_GETFD) >= 0 {
      var target = [CChar](repeating: 0, count: 256)
      let length = unsafe readlink("/proc/self/fd/\(descriptor)", &target, target.count - 1)
      guard length > 0 else { continue }
      let text = String(decoding: target[0..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.contains("memfd:\(name) ") || text.hasSuffix("memfd:\(name)") { count += 1 }
    }
    return count
  }

  /// How often a memfd of this name is mapped in this process.
  static func mappedCount(_ name: String) -> Int {
    guard let maps = unsafe fopen("/proc/self/maps", "r") else { return -1 }
    defer { unsafe fclose(maps) }
    var (count, line) = (0, [CChar](repeating: 0, count: 1024))
    while unsafe fgets(&line, Int32(line.count), maps) != nil {
      let text = String(
        decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.contains("memfd:\(name) ") { count += 1 }
    }
    return count
  }

  /// A path nobody else has.
  static func temporaryPath(_ name: String) -> String {
    "/tmp/smudge-\(getpid())-\(UInt64.random(in: 0...UInt64.max))-\(name)"
  }

  static func connect(_ path: String) -> Int32 {
    unsafe path.withCString { unsafe smudge_socket_connect($0) }
  }

  /// Writes text into a file.
  /// - Returns: bytes written.
  static func write(_ text: String, to descriptor: Int32, at offset: UInt64) -> Int {
    let bytes = Array(text.utf8)
    return unsafe pwrite(descriptor, bytes, bytes.count, off_t(offset))
  }

  static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }
  static func remove(_ path: String) { _ = unsafe unlink(path) }

  /// The permission bits of a path.
  static func mode(_ path: String) -> UInt32 {
    var status = stat()
    return unsafe lstat(path, &status) == 0 ? status.st_mode & 0o777 : 0
  }

  static func touch(_ path: String) {
    let descriptor = unsafe open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
    Glibc.close(descriptor)
  }
}
