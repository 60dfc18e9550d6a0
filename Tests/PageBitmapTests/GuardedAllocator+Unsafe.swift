import CBitmapKernels
import Glibc
import PageBitmap
import Locking

/// Memory between words that nobody may change.
///
/// Unsafe because it looks past what it hands out. Sound because the guards are part of the
/// allocation it made.
final class GuardedAllocator: BitmapAllocator {
  private static let guardByteCount = 4096
  private static let pattern: UInt64 = 0x5a5a_1234_dead_5a5a
  private let heap = HeapBitmapAllocator()
  private let broken = Mutex(0)

  var brokenGuardCount: Int { broken.withLock { $0 } }

  func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    let all = byteCount + 2 * Self.guardByteCount
    guard let memory = unsafe heap.allocate(byteCount: all) else { return nil }
    for offset in stride(from: 0, to: Self.guardByteCount, by: 8) {
      unsafe memory.storeBytes(of: Self.pattern, toByteOffset: offset, as: UInt64.self)
      let after = Self.guardByteCount + byteCount + offset
      unsafe memory.storeBytes(of: Self.pattern, toByteOffset: after, as: UInt64.self)
    }
    return unsafe memory + Self.guardByteCount
  }

  func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
    let memory = unsafe pointer - Self.guardByteCount
    for offset in stride(from: 0, to: Self.guardByteCount, by: 8) {
      let after = Self.guardByteCount + byteCount + offset
      for place in [offset, after] {
        let word = unsafe memory.load(fromByteOffset: place, as: UInt64.self)
        if word != Self.pattern { broken.withLock { $0 += 1 } }
      }
    }
    unsafe heap.deallocate(memory, byteCount: byteCount + 2 * Self.guardByteCount)
  }
}

/// Memory that can be made read-only, to see who writes.
final class FreezableAllocator: BitmapAllocator {
  private let heap = HeapBitmapAllocator()
  private let place = Mutex<(address: UInt, byteCount: Int)>((0, 0))

  func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    let memory = unsafe heap.allocate(byteCount: byteCount)
    place.withLock { $0 = (UInt(bitPattern: memory), byteCount) }
    return unsafe memory
  }

  func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe heap.deallocate(pointer, byteCount: byteCount)
  }

  /// From now on a write to these bytes ends the process.
  func freeze(_ bytes: Range<Int>) -> Bool {
    let first = place.withLock { $0.address }
    return unsafe mprotect(
      UnsafeMutableRawPointer(bitPattern: first + UInt(bytes.lowerBound)), bytes.count, PROT_READ)
      == 0
  }
}

/// Words that end where a page ends behind which nothing may be read.
@safe final class WordsAtEdge {
  private let memory: UnsafeMutableRawPointer
  private let byteCount: Int
  private let count: Int

  init?(count: Int) {
    let pages = (count * 8 + 4095) / 4096
    guard let memory = unsafe smudge_pages_allocate((pages + 2) * 4096) else { return nil }
    guard unsafe mprotect(memory, 4096, PROT_NONE) == 0,
      unsafe mprotect(memory + (pages + 1) * 4096, 4096, PROT_NONE) == 0
    else { return nil }
    unsafe self.memory = memory
    self.byteCount = (pages + 2) * 4096
    self.count = count
  }

  deinit { unsafe smudge_pages_free(memory, byteCount) }

  private var base: UnsafeMutablePointer<UInt64> {
    let end = unsafe memory + byteCount - 4096 - count * 8
    return unsafe end.assumingMemoryBound(to: UInt64.self)
  }

  func fill(_ word: (Int) -> UInt64) { for index in 0..<count { unsafe base[index] = word(index) } }

  func withSpan<R>(_ body: (Span<UInt64>) -> R) -> R {
    unsafe body(UnsafeBufferPointer(start: base, count: count).span)
  }
}
