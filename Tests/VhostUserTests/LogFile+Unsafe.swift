import CSmudgeLinux
import CTestLinux
import Glibc

/// The memfd of a dirty log as a front-end has it: it takes words by exchange, as QEMU does.
///
/// Unsafe because the memory is reached by address and changed by others at the same time. Sound
/// because it is mapped as long as this object lives, and each word's index is checked.
@safe final class LogFile: @unchecked Sendable {
  let descriptor: Int32
  let byteCount: UInt64
  private let address: UnsafeMutableRawPointer

  enum Sealing { case sealed, sealable, never }

  init(byteCount: UInt64, sealing: Sealing = .sealed, name: String = "log") {
    self.byteCount = byteCount
    descriptor = unsafe name.withCString { name in
      switch sealing {
      case .sealed: unsafe smudge_memory_create(name, byteCount)
      case .sealable: unsafe smudge_test_memory(name, byteCount, 1)
      case .never: unsafe smudge_test_memory(name, byteCount, 0)
      }
    }
    var error: Int32 = 0
    guard descriptor >= 0, let mapped = unsafe smudge_memory_map(descriptor, byteCount, &error)
    else { fatalError("no memory for a log") }
    unsafe address = mapped
  }

  deinit {
    unsafe smudge_memory_unmap(address, byteCount)
    close(descriptor)
  }

  var wordCount: Int { Int(byteCount / 8) }

  /// Takes a word out, leaving 0.
  func take(_ index: Int) -> UInt64 {
    precondition(index < wordCount, "a word past the log")
    return unsafe smudge_test_take(address.assumingMemoryBound(to: UInt64.self) + index)
  }

  /// Pages whose bit is set, in order; takes them out. `offset` is where the log begins.
  func takePages(offset: Int = 0) -> [UInt64] {
    var pages: [UInt64] = []
    for index in (offset / 8)..<wordCount {
      var word = take(index)
      while word != 0 {
        pages.append(UInt64((index - offset / 8) * 64 + word.trailingZeroBitCount))
        word &= word - 1
      }
    }
    return pages
  }

  func takeBytes() -> [UInt8] {
    (0..<Int(byteCount)).map { offset in
      let byte = unsafe address.load(fromByteOffset: offset, as: UInt8.self)
      unsafe address.storeBytes(of: 0, toByteOffset: offset, as: UInt8.self)
      return byte
    }
  }
}
