import IOMMUFD

/// The kernel's view of an ioctl's argument, by offsets.
///
/// Unsafe because integers are read from raw bytes and written to addresses that came as numbers.
/// Sound because every integer is a value of its type and bounded by the span, and the addresses
/// are of arrays and bitmaps that the caller of the ioctl keeps alive during it.
enum FakeBytes {
  static func load<T: FixedWidthInteger & BitwiseCopyable>(
    _ span: borrowing MutableRawSpan, _ offset: Int, as type: T.Type
  ) -> T {
    unsafe span.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self)
  }

  static func bytes(_ span: borrowing MutableRawSpan) -> [UInt8] {
    (0..<span.byteCount).map { load(span, $0, as: UInt8.self) }
  }

  static func store(_ words: [UInt64], at address: UInt64) {
    guard let base = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(address)) else { return }
    for (index, word) in words.enumerated() { unsafe base[index] = word }
  }

  static func merge(word index: Int, _ bits: UInt64, at address: UInt64) {
    guard let base = unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(address)) else { return }
    unsafe base[index] |= bits
  }

  /// Makes a call from an array, as the encodings are checked.
  static func control(
    _ calls: any IOMMUFDCalls, _ descriptor: Int32, _ request: IOMMUFDRequest,
    _ bytes: inout [UInt8]
  ) -> Int32 {
    unsafe bytes.withUnsafeMutableBytes { buffer in
      var span = unsafe MutableRawSpan(_unsafeBytes: buffer)
      return calls.control(descriptor, request, &span)
    }
  }
}
