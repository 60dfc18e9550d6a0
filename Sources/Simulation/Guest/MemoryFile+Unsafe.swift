import CSmudgeLinux
import Glibc

/// The memfd a guest's memory is. Unsafe only in handing a string to C; owns its descriptor.
struct MemoryFile: ~Copyable {
  let descriptor: Int32
  let byteCount: UInt64

  init(name: String, byteCount: UInt64) throws(GuestError) {
    let result = unsafe smudge_memory_create(name, byteCount)
    guard result >= 0 else {
      throw .memory(operation: "memfd_create", byteCount: byteCount, errno: -result)
    }
    descriptor = result
    self.byteCount = byteCount
  }

  deinit { close(descriptor) }
}
