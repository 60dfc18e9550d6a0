import Glibc

/// Memory of this process as the fake kernel reaches it: by address, as the real one does.
///
/// Unsafe because of that. Sound because addresses come from requests of the code under test, which
/// promises that so many bytes are there, and from mappings made here.
enum FakeMemory {
  static func word(_ address: UInt64, _ index: Int) -> UInt64 {
    unsafe UnsafePointer<UInt64>(bitPattern: UInt(address))![index]
  }

  static func setWord(_ address: UInt64, _ index: Int, _ value: UInt64) {
    unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(address))![index] = value
  }

  static func bytes(_ span: borrowing MutableRawSpan) -> [UInt8] {
    unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
  }

  static func bytes(_ span: RawSpan) -> [UInt8] {
    unsafe span.withUnsafeBytes { unsafe [UInt8]($0) }
  }

  static func store(_ bytes: [UInt8], to span: inout MutableRawSpan) {
    for (offset, byte) in bytes.prefix(span.byteCount).enumerated() {
      span.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
    }
  }

  static func withSpan<R>(_ bytes: [UInt8], _ body: (RawSpan) -> R) -> R {
    unsafe body(bytes.span.bytes)
  }
}

/// The memory of a device's region, which a driver may map.
///
/// Unsafe and sound as above; every access is bounded by a precondition.
final class FakeRegionMemory: Sendable {
  let byteCount: Int
  let address: UInt64

  init(byteCount: Int) {
    let memory = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    precondition(unsafe memory != MAP_FAILED, "mmap: errno \(errno)")
    self.byteCount = byteCount
    self.address = UInt64(UInt(bitPattern: memory))
  }

  deinit { unsafe _ = munmap(UnsafeMutableRawPointer(bitPattern: UInt(address)), byteCount) }

  subscript(range: Range<Int>) -> [UInt8] {
    get {
      precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
      return unsafe [UInt8](
        UnsafeRawBufferPointer(
          start: UnsafeRawPointer(bitPattern: UInt(address) + UInt(range.lowerBound)),
          count: range.count))
    }
    set {
      precondition(range.lowerBound >= 0 && range.upperBound <= byteCount)
      precondition(newValue.count == range.count)
      for (offset, byte) in newValue.enumerated() {
        unsafe UnsafeMutablePointer<UInt8>(bitPattern: UInt(address))![
          range.lowerBound + offset] = byte
      }
    }
  }
}
