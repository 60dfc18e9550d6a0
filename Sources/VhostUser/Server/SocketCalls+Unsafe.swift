import CSmudgeLinux
import Glibc

/// The calls of Linux that the companion's thread makes. Results are 0 or more, or a negative
/// errno.
///
/// Unsafe because the calls take addresses. Sound because each is that of a local or an array that
/// lives through the call, given with its own size.
enum SocketCalls {
  struct Ready {
    let wake: Bool
    let listener: Bool
    let connection: Bool
  }

  /// The file of a listening socket, by which its owner knows it again.
  struct SocketFile: Sendable {
    let path: String
    let device: UInt64
    let inode: UInt64

    func remove() {
      unsafe path.withCString { unsafe smudge_vhost_remove($0, device, inode) }
    }
  }

  static func listen(at path: String) -> (descriptor: Int32, file: SocketFile) {
    var (device, inode): (UInt64, UInt64) = (0, 0)
    let descriptor = unsafe path.withCString {
      unsafe smudge_vhost_listen($0, &device, &inode)
    }
    return (descriptor, SocketFile(path: path, device: device, inode: inode))
  }

  static func accept(_ listener: Int32) -> Int32 { smudge_socket_accept(listener) }

  static func makeWake() -> Int32 { smudge_event_create() }
  static func wake(_ descriptor: Int32) { smudge_event_signal(descriptor) }
  static func drain(_ descriptor: Int32) { smudge_event_clear(descriptor) }

  static func wait(
    wake: Int32, listener: Int32, connection: Int32, isWriting: Bool, milliseconds: Int32
  ) -> Ready {
    let events = [POLLIN, POLLIN, isWriting ? POLLOUT : POLLIN].map { Int16($0) }
    // Nothing is where the kernel refuses.
    var ready = [Int16](repeating: 0, count: events.count)
    _ = unsafe smudge_socket_wait(
      [wake, listener, connection], events, &ready, events.count, milliseconds)
    return Ready(wake: ready[0] != 0, listener: ready[1] != 0, connection: ready[2] != 0)
  }

  /// What one receive gave.
  struct Received {
    /// Bytes, 0 at the end of the stream, or a negative errno.
    let count: Int
    let descriptors: [OwnedDescriptor]
    /// More descriptors came than a message may have; the kernel has closed those.
    let isTruncated: Bool
  }

  /// Receives into `bytes` from `start` up to `end`, without waiting.
  static func receive(
    _ descriptor: Int32, into bytes: inout [UInt8], from start: Int, to end: Int
  ) -> Received {
    precondition(start < end && end <= bytes.count, "room for a byte at least")
    var numbers = [Int32](repeating: -1, count: CompanionLimits.descriptorCountMax)
    var (found, surplus) = (0, 0)
    let count = unsafe bytes.withUnsafeMutableBytes { buffer -> Int in
      guard let base = buffer.baseAddress else { return 0 }
      return Int(
        unsafe smudge_socket_receive(
          descriptor, base + start, end - start, &numbers, numbers.count, &found, &surplus))
    }
    let descriptors = numbers[0..<found].map { OwnedDescriptor(owning: $0) }
    return Received(count: count, descriptors: descriptors, isTruncated: surplus > 0)
  }

  /// Sends without waiting. The descriptors stay the caller's.
  static func send(
    _ bytes: ArraySlice<UInt8>, with descriptors: [Int32] = [], to descriptor: Int32
  ) -> Int {
    unsafe bytes.withUnsafeBytes { buffer -> Int in
      Int(
        unsafe smudge_socket_send(
          descriptor, buffer.baseAddress, buffer.count, nil, 0, descriptors, descriptors.count))
    }
  }
}
