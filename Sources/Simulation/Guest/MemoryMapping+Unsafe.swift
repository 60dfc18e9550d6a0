import Addressing
import CSmudgeLinux
import Glibc

/// One mapping of all of a guest's memory.
///
/// Unsafe because guest memory is reached by address, and written by several threads at once as
/// memory of a machine is. Sound because the address range is mapped for as long as this object
/// lives, every access is checked against its size, and `store` and `load` go word by word through
/// atomics. The spans of `withBytes` may show torn content while the guest runs; their users know.
@safe final class MemoryMapping: @unchecked Sendable {
  let byteCount: UInt64
  private let base: UnsafeMutableRawPointer

  init(of file: borrowing MemoryFile) throws(GuestError) {
    var error: Int32 = 0
    guard let address = unsafe smudge_memory_map(file.descriptor, file.byteCount, &error) else {
      throw .memory(operation: "mmap", byteCount: file.byteCount, errno: error)
    }
    unsafe base = address
    byteCount = file.byteCount
  }

  deinit { unsafe smudge_memory_unmap(base, byteCount) }

  var hvaFirst: HVA { unsafe HVA(UInt64(UInt(bitPattern: base))) }

  private func check(_ offset: UInt64, _ count: Int) {
    precondition(
      count >= 0 && UInt64(count) <= byteCount && offset <= byteCount &- UInt64(count),
      "bytes past the guest's memory")
  }

  func store(_ bytes: RawSpan, atOffset offset: UInt64) {
    check(offset, bytes.byteCount)
    unsafe bytes.withUnsafeBytes { source in
      guard let first = source.baseAddress else { return }
      unsafe smudge_memory_store(base + Int(offset), first, source.count)
    }
  }

  func load(into buffer: inout MutableRawSpan, atOffset offset: UInt64) {
    check(offset, buffer.byteCount)
    unsafe buffer.withUnsafeMutableBytes { target in
      guard let first = target.baseAddress else { return }
      unsafe smudge_memory_load(first, base + Int(offset), target.count)
    }
  }

  func withBytes<R, E: Error>(
    atOffset offset: UInt64, count: Int, _ body: (RawSpan) throws(E) -> R
  ) throws(E) -> R {
    check(offset, count)
    let bytes = unsafe UnsafeRawBufferPointer(start: base + Int(offset), count: count)
    return try unsafe body(bytes.bytes)
  }

  func withMutableBytes<R, E: Error>(
    atOffset offset: UInt64, count: Int, _ body: (inout MutableRawSpan) throws(E) -> R
  ) throws(E) -> R {
    check(offset, count)
    let bytes = unsafe UnsafeMutableRawBufferPointer(start: base + Int(offset), count: count)
    var span = unsafe bytes.mutableBytes
    return try body(&span)
  }

  /// One digest a page of 4 KiB.
  func digests(atOffset offset: UInt64, pageCount: UInt64) -> [UInt64] {
    check(offset, Int(pageCount) * 4096)
    return unsafe [UInt64](unsafeUninitializedCapacity: Int(pageCount)) { digests, count in
      if let first = digests.baseAddress {
        unsafe smudge_memory_digest(base + Int(offset), Int(pageCount), first)
      }
      count = Int(pageCount)
    }
  }

  /// Asks for pages of one NUMA node.
  /// - Returns: false where the machine has no such node; the memory is then placed anywhere.
  func prefer(node: Int, atOffset offset: UInt64, byteCount: UInt64) -> Bool {
    check(offset, Int(byteCount))
    guard let node = UInt32(exactly: node) else { return false }
    return unsafe smudge_memory_prefer_node(base + Int(offset), byteCount, node) == 0
  }
}
