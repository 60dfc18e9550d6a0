/// The fields of one payload in order. Every read is bounded; what is missing is EINVAL.
struct WireReader {
  let bytes: [UInt8]
  let operation: String
  private(set) var offset = 0

  init(_ bytes: [UInt8], _ operation: String) {
    self.bytes = bytes
    self.operation = operation
  }

  var leftCount: Int { bytes.count - offset }

  mutating func take<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type = T.self
  ) throws(VFIOUserError) -> T {
    guard leftCount >= MemoryLayout<T>.size else {
      throw malformed("its payload of \(bytes.count) bytes is short")
    }
    let value = WireBytes.load(T.self, from: bytes, at: offset)
    offset += MemoryLayout<T>.size
    return value
  }

  /// Exactly so many bytes.
  mutating func takeBytes(_ count: Int) throws(VFIOUserError) -> [UInt8] {
    guard count >= 0, leftCount >= count else {
      throw malformed("\(count) bytes of data are promised and \(leftCount) are there")
    }
    let part = Array(bytes[offset..<offset + count])
    offset += count
    return part
  }

  mutating func takeRest() -> [UInt8] {
    let part = Array(bytes[offset...])
    offset = bytes.count
    return part
  }

  func end() throws(VFIOUserError) {
    guard leftCount == 0 else { throw malformed("\(leftCount) bytes too many") }
  }

  func require(_ holds: Bool, _ detail: @autoclosure () -> String) throws(VFIOUserError) {
    guard holds else { throw malformed(detail()) }
  }

  func malformed(_ detail: String) -> VFIOUserError {
    VFIOUserError(.malformed, operation: operation, errno: WireErrno.einval, detail: detail)
  }
}

/// A payload as it is put together.
struct WireWriter {
  private(set) var bytes: [UInt8] = []

  mutating func put<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
    WireBytes.append(value, to: &bytes)
  }

  mutating func put(_ more: [UInt8]) { bytes += more }
}
