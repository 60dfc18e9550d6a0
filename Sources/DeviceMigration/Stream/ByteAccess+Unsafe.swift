/// Bytes of an array as spans.
///
/// Unsafe because an array of any type could be seen as bytes, padding included. Sound because
/// these are arrays of bytes, and the span does not outlive the access it is made in.
enum ByteAccess {
  static func with<R, E: Error>(
    _ bytes: [UInt8], first count: Int? = nil, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    let span = unsafe bytes.span.bytes
    return try body(span.extracting(0..<(count ?? bytes.count)))
  }

  static func withMutable<R, E: Error>(
    _ bytes: inout [UInt8], _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R {
    var elements = bytes.mutableSpan
    var span = unsafe elements.mutableBytes
    return try body(&span)
  }
}
