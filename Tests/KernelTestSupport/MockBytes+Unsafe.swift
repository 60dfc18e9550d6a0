/// Structures and bitmaps as the kernel's test interface takes them.
///
/// Unsafe because values are seen as bytes and by address. Sound because they are trivial C
/// structures and integers, and neither span nor address is used after the closure.
enum MockBytes {
  static func writing<Value: BitwiseCopyable, R>(
    _ value: inout Value, _ body: (inout MutableRawSpan) -> R
  ) -> R {
    unsafe withUnsafeMutableBytes(of: &value) { bytes in
      var span = unsafe MutableRawSpan(_unsafeBytes: bytes)
      return body(&span)
    }
  }

  static func withAddress<Value: BitwiseCopyable, R>(
    of value: inout Value, _ body: (UInt64) -> R
  ) -> R {
    unsafe withUnsafeMutableBytes(of: &value) { bytes in
      body(UInt64(UInt(bitPattern: bytes.baseAddress)))
    }
  }

  static func withAddress<R>(of words: inout [UInt64], _ body: (UInt64) -> R) -> R {
    unsafe words.withUnsafeMutableBytes { bytes in
      body(UInt64(UInt(bitPattern: bytes.baseAddress)))
    }
  }
}
