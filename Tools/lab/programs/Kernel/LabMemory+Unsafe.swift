import Glibc

/// Memory of this process that the kernel is given by address.
///
/// Unsafe because it is reached by address. Sound because it stays mapped while the object lives and
/// each access is checked against its size.
@safe final class LabMemory {
  let byteCount: Int
  private let base: UnsafeMutableRawPointer

  init(byteCount: Int) throws {
    let base = unsafe mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)
    guard let base = unsafe base, unsafe base != MAP_FAILED else {
      throw LabError("\(byteCount) bytes of memory: \(Errno.name(errno))")
    }
    unsafe self.base = base
    self.byteCount = byteCount
  }

  deinit { unsafe munmap(base, byteCount) }

  var address: UInt64 { unsafe UInt64(UInt(bitPattern: base)) }

  func load(_ offset: Int) -> UInt64 {
    precondition(offset >= 0 && offset + 8 <= byteCount, "past the memory")
    return unsafe base.load(fromByteOffset: offset, as: UInt64.self)
  }

  func store(_ value: UInt64, _ offset: Int) {
    precondition(offset >= 0 && offset + 8 <= byteCount, "past the memory")
    unsafe base.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
  }

  func clear() { unsafe memset(base, 0, byteCount) }
}
