import CSmudgeLinux

/// The calls, made for real.
///
/// Unsafe because the kernel is handed addresses. Sound because each lies in a span that outlives
/// the call and whose size is what the kernel is told; what a structure points to is kept alive by
/// whoever filled it in.
@safe public struct LinuxVFIOCalls: VFIOCalls {
  public init() {}

  public func open(_ path: String) -> Int32 {
    unsafe path.withCString { unsafe smudge_vfio_open($0) }
  }

  public func close(_ descriptor: Int32) { smudge_vfio_close(descriptor) }

  public func control(_ descriptor: Int32, _ request: VFIORequest, value: Int) -> Int32 {
    smudge_vfio_ioctl_value(descriptor, request.number, value)
  }

  public func control(
    _ descriptor: Int32, _ request: VFIORequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    unsafe argument.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return -22 }
      return unsafe smudge_vfio_ioctl(descriptor, request.number, base)
    }
  }

  public func read(_ descriptor: Int32, into buffer: inout MutableRawSpan) -> Int {
    unsafe buffer.withUnsafeMutableBytes {
      unsafe smudge_vfio_read(descriptor, $0.baseAddress, $0.count)
    }
  }

  public func write(_ descriptor: Int32, _ bytes: RawSpan) -> Int {
    unsafe bytes.withUnsafeBytes {
      unsafe smudge_vfio_write(descriptor, $0.baseAddress, $0.count)
    }
  }

  public func read(
    _ descriptor: Int32, into buffer: inout MutableRawSpan, at offset: UInt64
  ) -> Int {
    unsafe buffer.withUnsafeMutableBytes {
      unsafe smudge_vfio_read_at(descriptor, $0.baseAddress, $0.count, offset)
    }
  }

  public func write(_ descriptor: Int32, _ bytes: RawSpan, at offset: UInt64) -> Int {
    unsafe bytes.withUnsafeBytes {
      unsafe smudge_vfio_write_at(descriptor, $0.baseAddress, $0.count, offset)
    }
  }

  public func map(_ descriptor: Int32, offset: UInt64, byteCount: UInt64) -> Int {
    smudge_vfio_map(descriptor, offset, byteCount)
  }

  public func unmap(address: UInt64, byteCount: UInt64) { smudge_vfio_unmap(address, byteCount) }
}
