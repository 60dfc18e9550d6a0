import CSmudgeLinux

/// Bytes of guest memory in the files the VMM gave.
///
/// Unsafe because buffers are given to C by address. Sound because each is given with its own count
/// and lives through the call.
enum FileBytes {
  /// - Returns: 0, or an errno.
  static func read(
    _ descriptor: Int32, at offset: UInt64, into bytes: inout MutableRawSpan
  ) -> Int32 {
    unsafe bytes.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return -(unsafe smudge_file_read(descriptor, offset, base, bytes.count))
    }
  }

  /// - Returns: 0, or an errno.
  static func write(_ descriptor: Int32, at offset: UInt64, _ bytes: RawSpan) -> Int32 {
    unsafe bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return -(unsafe smudge_file_write(descriptor, offset, base, bytes.count))
    }
  }

  /// Bytes the file has, or a negative errno.
  static func count(_ descriptor: Int32) -> Int64 {
    var (device, inode, byteCount): (UInt64, UInt64, UInt64) = (0, 0, 0)
    let value = unsafe smudge_vhost_file(descriptor, &device, &inode, &byteCount)
    return value < 0 ? Int64(value) : Int64(clamping: byteCount)
  }
}
