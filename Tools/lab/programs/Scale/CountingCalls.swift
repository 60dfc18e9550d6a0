import VFIOKernel

/// The real calls, counted and timed.
final class CountingCalls: VFIOCalls {
  private let real = LinuxVFIOCalls()
  let counter = CallCounter()

  func open(_ path: String) -> Int32 { real.open(path) }
  func close(_ descriptor: Int32) { real.close(descriptor) }

  func control(_ descriptor: Int32, _ request: VFIORequest, value: Int) -> Int32 {
    counter.measured { real.control(descriptor, request, value: value) }
  }

  func control(
    _ descriptor: Int32, _ request: VFIORequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    counter.measured { real.control(descriptor, request, &argument) }
  }

  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan) -> Int {
    real.read(descriptor, into: &buffer)
  }
  func write(_ descriptor: Int32, _ bytes: RawSpan) -> Int { real.write(descriptor, bytes) }
  func read(_ descriptor: Int32, into buffer: inout MutableRawSpan, at offset: UInt64) -> Int {
    real.read(descriptor, into: &buffer, at: offset)
  }
  func write(_ descriptor: Int32, _ bytes: RawSpan, at offset: UInt64) -> Int {
    real.write(descriptor, bytes, at: offset)
  }
  func map(_ descriptor: Int32, offset: UInt64, byteCount: UInt64) -> Int {
    real.map(descriptor, offset: offset, byteCount: byteCount)
  }
  func unmap(address: UInt64, byteCount: UInt64) {
    real.unmap(address: address, byteCount: byteCount)
  }
}
