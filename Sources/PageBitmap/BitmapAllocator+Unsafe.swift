import CBitmapKernels

/// Where the memory of bitmaps comes from. Unsafe because it hands out raw memory; sound because a
/// bitmap is the only holder of what it was given, and returns it with the same size.
public protocol BitmapAllocator: Sendable {
  /// `byteCount` zeroed bytes, page aligned; nil when there are none.
  func allocate(byteCount: Int) -> UnsafeMutableRawPointer?
  func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int)
}

/// Memory from anywhere: fresh pages of the system, which cost nothing until they are touched.
public struct HeapBitmapAllocator: BitmapAllocator {
  public init() {}

  public func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
    unsafe smudge_pages_allocate(byteCount)
  }

  public func deallocate(_ pointer: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe smudge_pages_free(pointer, byteCount)
  }
}
