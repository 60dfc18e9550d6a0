/// The calls into Linux that this module makes, all of them, so that a test can make each of them
/// fail, and can be the kernel.
///
/// Each returns what the kernel does: a descriptor, a count, an address, or an errno, negative.
public protocol VFIOCalls: Sendable {
  /// `open(2)` for reading and writing.
  func open(_ path: String) -> Int32
  func close(_ descriptor: Int32)

  /// `ioctl(2)` whose argument is a number, 0 where it has none. Not repeated when interrupted.
  func control(_ descriptor: Int32, _ request: VFIORequest, value: Int) -> Int32
  /// `ioctl(2)` whose argument is a structure, in and out, which may hold addresses of memory of
  /// this process. Not repeated when interrupted.
  func control(
    _ descriptor: Int32, _ request: VFIORequest, _ argument: inout MutableRawSpan
  ) -> Int32

  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan) -> Int
  func write(_ descriptor: Int32, _ bytes: RawSpan) -> Int
  /// `pread(2)`, `pwrite(2)`.
  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan, at offset: UInt64) -> Int
  func write(_ descriptor: Int32, _ bytes: RawSpan, at offset: UInt64) -> Int

  /// `mmap(2)`, shared, readable and writable, of a piece of a device.
  func map(_ descriptor: Int32, offset: UInt64, byteCount: UInt64) -> Int
  func unmap(address: UInt64, byteCount: UInt64)
}
