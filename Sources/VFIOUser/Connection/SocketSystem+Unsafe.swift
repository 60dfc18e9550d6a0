import CSmudgeLinux
import Glibc

/// The calls of Linux a connection makes.
///
/// Unsafe because buffers and arrays are given to C by address. Sound because each is given with
/// its
/// own count, bounded by preconditions, and lives through the call; descriptors that come are owned
/// at once.
enum SocketSystem {
  static func close(_ descriptor: Int32) { _ = Glibc.close(descriptor) }

  static func shutDown(_ descriptor: Int32) { smudge_socket_shut_down(descriptor) }

  static func remove(_ path: String) { _ = unsafe unlink(path) }

  /// What is received in one call.
  struct Received {
    /// 0 at the end, negative an errno.
    var count: Int
    var descriptors: [OwnedDescriptor] = []
    /// Closed already.
    var surplusCount = 0
  }

  /// Sends what goes at once of two pieces from `start` on, counted over both.
  /// - Returns: bytes, or a negative errno.
  static func send(
    _ head: [UInt8], _ body: [UInt8], from start: Int, _ descriptors: [OwnedDescriptor],
    to socket: Int32
  ) -> Int {
    precondition(start >= 0 && start < head.count + body.count, "there is something to send")
    let numbers = descriptors.map(\.rawValue)
    let headStart = min(start, head.count)
    let bodyStart = max(0, start - head.count)
    return unsafe head.withUnsafeBytes { head in
      unsafe body.withUnsafeBytes { body in
        unsafe numbers.withUnsafeBufferPointer { numbers in
          Int(
            unsafe smudge_socket_send(
              socket, head.baseAddress?.advanced(by: headStart), head.count - headStart,
              body.baseAddress?.advanced(by: bodyStart), body.count - bodyStart,
              numbers.baseAddress, numbers.count))
        }
      }
    }
  }

  /// Receives into `bytes` from `start` on.
  static func receive(
    into bytes: inout [UInt8], from start: Int, descriptorCountMax: Int, _ socket: Int32
  ) -> Received {
    precondition(start >= 0 && start < bytes.count, "there is room")
    let room = min(descriptorCountMax, Int(SMUDGE_SOCKET_DESCRIPTOR_MAX))
    var numbers = [Int32](repeating: -1, count: Int(SMUDGE_SOCKET_DESCRIPTOR_MAX))
    var count = 0
    var surplus = 0
    let result = unsafe bytes.withUnsafeMutableBytes { bytes -> Int64 in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe smudge_socket_receive(
        socket, base.advanced(by: start), bytes.count - start, &numbers, room, &count, &surplus)
    }
    return Received(
      count: Int(result), descriptors: numbers.prefix(count).map { OwnedDescriptor(owning: $0) },
      surplusCount: surplus)
  }

  struct Waiting {
    var descriptor: Int32
    var writing = false
    var reading = true
  }

  /// Waits until one is ready, has failed or has ended.
  /// - Returns: which are readable, and which writable; nil when the kernel refused.
  static func wait(
    _ entries: [Waiting], milliseconds: Int32
  ) -> (readable: [Bool], writable: [Bool])? {
    let descriptors = entries.map(\.descriptor)
    let events = entries.map {
      Int16(($0.reading ? Int32(POLLIN) : 0) | ($0.writing ? Int32(POLLOUT) : 0))
    }
    var ready = [Int16](repeating: 0, count: entries.count)
    let result = unsafe smudge_socket_wait(
      descriptors, events, &ready, entries.count, milliseconds)
    guard result >= 0 else { return nil }
    let ended = Int32(POLLHUP) | Int32(POLLERR) | Int32(POLLNVAL)
    return (
      ready.map { Int32($0) & (Int32(POLLIN) | ended) != 0 },
      ready.map { Int32($0) & (Int32(POLLOUT) | ended) != 0 }
    )
  }

  static var nowMilliseconds: Int64 { smudge_monotonic_milliseconds() }

  /// Two ends, or nil when the kernel has no descriptor left.
  static func pair() -> (OwnedDescriptor, OwnedDescriptor)? {
    var first: Int32 = -1
    var second: Int32 = -1
    guard unsafe smudge_socket_pair(&first, &second) == 0 else { return nil }
    return (OwnedDescriptor(owning: first), OwnedDescriptor(owning: second))
  }

  static func event() -> OwnedDescriptor? {
    let result = smudge_event_create()
    return result >= 0 ? OwnedDescriptor(owning: result) : nil
  }

  static func signal(_ event: OwnedDescriptor) { smudge_event_signal(event.rawValue) }
  static func clear(_ event: OwnedDescriptor) { smudge_event_clear(event.rawValue) }

  static func listen(_ path: String) -> Int32 { unsafe smudge_socket_listen(path, 4) }
  static func connect(_ path: String) -> Int32 { unsafe smudge_socket_connect(path) }
  static func accept(_ socket: Int32) -> Int32 { smudge_socket_accept(socket) }
}

extension SocketSystem {
  /// Whether two descriptors are open on one file, by device and inode.
  static func isSameFile(_ one: OwnedDescriptor, _ two: OwnedDescriptor) -> Bool {
    var first = stat()
    var second = stat()
    guard unsafe fstat(one.rawValue, &first) == 0, unsafe fstat(two.rawValue, &second) == 0 else {
      return false
    }
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino
  }
}
