import Addressing

extension SimulatedMemory {
  /// The bytes at `gpa`, nil when they do not lie in one RAM region.
  ///
  /// Unsafe because bytes are written to elements whatever their type. Sound because every byte is
  /// a valid `UInt8`.
  func bytes(at gpa: GPA, count: Int) -> [UInt8]? {
    var content = [UInt8](repeating: 0, count: count)
    var elements = content.mutableSpan
    var buffer = unsafe elements.mutableBytes
    return read(into: &buffer, at: gpa) ? content : nil
  }
}
