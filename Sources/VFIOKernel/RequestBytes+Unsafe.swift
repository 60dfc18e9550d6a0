/// Structures and arrays as the bytes of an ioctl.
///
/// Unsafe because values are seen as bytes. Sound because they are trivial C structures and bytes,
/// for which every bit pattern is a value, and no span outlives the closure it was given to.
enum RequestBytes {
  static func writing<Value: BitwiseCopyable, R>(
    _ value: inout Value, _ body: (inout MutableRawSpan) -> R
  ) -> R {
    unsafe withUnsafeMutableBytes(of: &value) { bytes in
      var span = unsafe MutableRawSpan(_unsafeBytes: bytes)
      return body(&span)
    }
  }

  static func writing<R>(_ bytes: inout [UInt8], _ body: (inout MutableRawSpan) -> R) -> R {
    unsafe bytes.withUnsafeMutableBytes { bytes in
      var span = unsafe MutableRawSpan(_unsafeBytes: bytes)
      return body(&span)
    }
  }

  static func reading<Value: BitwiseCopyable, R>(
    _ value: Value, _ body: (RawSpan) -> R
  ) -> R {
    unsafe withUnsafeBytes(of: value) { bytes in
      body(unsafe RawSpan(_unsafeBytes: bytes))
    }
  }

  /// The structure at `offset`, nil when it does not lie wholly in `bytes`.
  static func load<Value: BitwiseCopyable>(
    _ type: Value.Type, from bytes: [UInt8], at offset: Int
  ) -> Value? {
    let size = MemoryLayout<Value>.size
    guard offset >= 0, offset <= bytes.count, bytes.count - offset >= size else { return nil }
    return unsafe bytes.withUnsafeBytes {
      unsafe $0.loadUnaligned(fromByteOffset: offset, as: Value.self)
    }
  }

  static func store<Value: BitwiseCopyable>(_ value: Value, to bytes: inout [UInt8], at offset: Int)
  {
    precondition(offset >= 0 && bytes.count - offset >= MemoryLayout<Value>.size, "out of bounds")
    unsafe bytes.withUnsafeMutableBytes {
      unsafe $0.storeBytes(of: value, toByteOffset: offset, as: Value.self)
    }
  }

  /// The address of an array's elements, for the time of the call.
  static func withAddress<Element: BitwiseCopyable, R>(
    of elements: [Element], _ body: (UInt64) -> R
  ) -> R {
    unsafe elements.withUnsafeBytes { bytes in
      body(UInt64(UInt(bitPattern: bytes.baseAddress)))
    }
  }

  /// The number of bytes of a structure, for `argsz`.
  static func size<Value>(_ type: Value.Type) -> UInt32 { UInt32(MemoryLayout<Value>.size) }
}

extension VFIOCalls {
  /// `ioctl(2)` with a structure.
  func control<Value: BitwiseCopyable>(
    _ descriptor: Int32, _ request: VFIORequest, structure: inout Value
  ) -> Int32 {
    RequestBytes.writing(&structure) { control(descriptor, request, &$0) }
  }
}
