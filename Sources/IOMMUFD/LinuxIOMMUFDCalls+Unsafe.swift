import CSmudgeLinux
import PageBitmap

/// The calls, made for real.
///
/// Unsafe because the kernel is handed addresses. Sound because each lies in a span that outlives
/// the call and is as large as its structure says; what a structure points to is kept alive by
/// whoever filled it in.
@safe public struct LinuxIOMMUFDCalls: IOMMUFDCalls {
  public init() {}

  public func open(_ path: String) -> Int32 {
    unsafe path.withCString { unsafe smudge_iommufd_open($0) }
  }

  public func close(_ descriptor: Int32) { smudge_iommufd_close(descriptor) }

  public func control(
    _ descriptor: Int32, _ request: IOMMUFDRequest, _ argument: inout MutableRawSpan
  ) -> Int32 {
    unsafe argument.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return -IOMMUFDErrno.einval }
      return unsafe smudge_iommufd_ioctl(descriptor, request.number, base)
    }
  }
}

/// Structures as the bytes of an ioctl.
///
/// Unsafe because values are seen as bytes, and their addresses as numbers. Sound because they are
/// trivial C structures, for which every bit pattern is a value, and neither span nor number is
/// used after the closure it was given to.
enum RequestBytes {
  static func writing<Value: BitwiseCopyable, R>(
    _ value: inout Value, _ body: (inout MutableRawSpan) -> R
  ) -> R {
    unsafe withUnsafeMutableBytes(of: &value) { bytes in
      var span = unsafe MutableRawSpan(_unsafeBytes: bytes)
      return body(&span)
    }
  }

  /// The address of an array's elements, for the kernel to write to during the call.
  static func withAddress<Element: BitwiseCopyable, R>(
    of elements: inout [Element], _ body: (UInt64) -> R
  ) -> R {
    unsafe elements.withUnsafeMutableBytes { bytes in
      body(UInt64(UInt(bitPattern: bytes.baseAddress)))
    }
  }

  /// The address of a query's words, for the kernel to set bits in during the call.
  ///
  /// The memory is of whole pages of this process and nobody else's, so the kernel can pin it: what
  /// it can not pin it drops without a word.
  static func withAddress<R>(of bitmap: inout QueryBitmap, _ body: (UInt64) -> R) -> R {
    unsafe bitmap.withUnsafeMutableWords { body(UInt64(UInt(bitPattern: $0))) }
  }

  /// The number of bytes of a structure, for `size` and `argsz`.
  static func size<Value>(_ type: Value.Type) -> UInt32 { UInt32(MemoryLayout<Value>.size) }
}
