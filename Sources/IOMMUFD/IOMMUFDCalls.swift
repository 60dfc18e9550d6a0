/// The calls into Linux that this module makes, all of them, so that a test can make each of them
/// fail, and can be the kernel.
///
/// Each returns what the kernel does: a descriptor or count of 0 and more, or an errno, negative.
public protocol IOMMUFDCalls: Sendable {
  /// `open(2)` for reading and writing.
  func open(_ path: String) -> Int32
  func close(_ descriptor: Int32)
  /// `ioctl(2)` whose argument is a structure, in and out, which may hold addresses of memory of
  /// this process. Not repeated when interrupted.
  func control(
    _ descriptor: Int32, _ request: IOMMUFDRequest, _ argument: inout MutableRawSpan
  ) -> Int32
}
