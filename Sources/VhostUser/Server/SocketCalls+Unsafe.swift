import CSmudgeLinux

/// The calls of Linux that the companion's thread makes. Results are 0 or more, or a negative
/// errno.
///
/// Unsafe because the calls take addresses. Sound because each is that of a local or an array that
/// lives through the call, given with its own size.
enum SocketCalls {
  struct Ready {
    let flags: Int32
    var wake: Bool { flags & Int32(SMUDGE_VHOST_READY_WAKE) != 0 }
    var listener: Bool { flags & Int32(SMUDGE_VHOST_READY_LISTENER) != 0 }
    var connection: Bool { flags & Int32(SMUDGE_VHOST_READY_CONNECTION) != 0 }
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

  static func accept(_ listener: Int32) -> Int32 { smudge_vhost_accept(listener) }

  static func makeWake() -> Int32 { smudge_vhost_wake_create() }
  static func wake(_ descriptor: Int32) { smudge_vhost_wake(descriptor) }
  static func drain(_ descriptor: Int32) { smudge_vhost_wake_drain(descriptor) }

  static func wait(
    wake: Int32, listener: Int32, connection: Int32, isWriting: Bool, milliseconds: Int32
  ) -> Ready {
    let value = smudge_vhost_wait(
      wake, listener, connection, isWriting ? 1 : 0, milliseconds)
    return Ready(flags: max(0, value))
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
    var (found, isTruncated): (Int, Int32) = (0, 0)
    let count = unsafe bytes.withUnsafeMutableBytes { buffer -> Int in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe numbers.withUnsafeMutableBufferPointer { numbers -> Int in
        guard let first = numbers.baseAddress else { return 0 }
        return unsafe smudge_vhost_receive(
          descriptor, base + start, end - start, first, &found, &isTruncated)
      }
    }
    let descriptors = numbers[0..<found].map { OwnedDescriptor(owning: $0) }
    return Received(count: count, descriptors: descriptors, isTruncated: isTruncated != 0)
  }

  /// Sends without waiting. The descriptors stay the caller's.
  static func send(
    _ bytes: ArraySlice<UInt8>, with descriptors: [Int32] = [], to descriptor: Int32
  ) -> Int {
    unsafe bytes.withUnsafeBytes { buffer -> Int in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe descriptors.withUnsafeBufferPointer { numbers in
        unsafe smudge_vhost_send(
          descriptor, base, buffer.count, numbers.baseAddress, numbers.count)
      }
    }
  }
}
