import PageBitmap
import Locking

/// Memory so many times. Unsafe as every allocator is; sound because it hands on what the heap
/// gives.
final class LimitedAllocator: BitmapAllocator {
  private let left: Mutex<Int>
  private let heap = HeapBitmapAllocator()

  init(left: Int) { self.left = Mutex(left) }

  func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    let isGiven = left.withLock { left in
      left -= 1
      return left >= 0
    }
    return isGiven ? unsafe heap.allocate(byteCount: byteCount) : nil
  }

  func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe heap.deallocate(pointer, byteCount: byteCount)
  }
}
