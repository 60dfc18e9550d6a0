import Addressing

/// Raw bytes for tests. Unsafe because spans of raw bytes and addresses are read directly; sound
/// because spans check their bounds and the one address read lies in a mapping of the test's guest.
enum TestBytes {
  static func with<R>(_ bytes: [UInt8], _ body: (RawSpan) -> R) -> R {
    let span = bytes.span
    return unsafe body(span.bytes)
  }

  /// Bytes that `fill` filled; nil when it says no, and then it must have left them alone.
  static func filled(_ count: Int, _ fill: (inout MutableRawSpan) -> Bool) -> [UInt8]? {
    var bytes = Array(repeating: UInt8(0xee), count: count)
    var span = bytes.mutableSpan
    var buffer = unsafe span.mutableBytes
    if fill(&buffer) { return bytes }
    precondition(bytes.allSatisfy { $0 == 0xee }, "a refused read left its bytes alone")
    return nil
  }

  static func byte(_ span: RawSpan, _ offset: Int) -> UInt8 {
    unsafe span.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
  }

  static func copy(_ bytes: [UInt8], to span: inout MutableRawSpan) {
    for (offset, byte) in bytes.enumerated() {
      span.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    }
  }

  static func byte(at address: HVA) -> UInt8? {
    unsafe UnsafePointer<UInt8>(bitPattern: UInt(address.rawValue))?.pointee
  }
}
