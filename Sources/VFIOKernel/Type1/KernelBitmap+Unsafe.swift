import Addressing
import CSmudgeLinux
import PageBitmap

/// A query's bitmap as the kernel is given it.
///
/// Unsafe because the kernel writes it by address. Sound because the address is that of the whole
/// words of the window, stays in place until the call has returned, and `size` says how many bytes
/// there are. The memory is page aligned and belongs to the bitmap alone.
enum KernelBitmap {
  /// Calls `body` with the description of the bitmap, which is all zero then, and ORs what it held
  /// before back in: type1 overwrites the words of mappings, keeps those of holes, and ORs a word
  /// two mappings share with what it finds there.
  static func fill(_ bitmap: inout QueryBitmap, _ body: (smudge_vfio_bitmap) -> Int32) -> Int32 {
    var held: [(Int, UInt64)] = []
    if !bitmap.isClear, let window = bitmap.window {
      bitmap.forEachDirtyWord { held.append(($0, $1)) }
      // The same window fits again.
      try? bitmap.reset(window: window, pageSize: bitmap.pageSize)
    }
    var description = smudge_vfio_bitmap()
    description.pgsize = bitmap.pageSize.bytes
    description.size = UInt64(bitmap.byteCount)
    let result = unsafe bitmap.withUnsafeMutableWords { words in
      description.data = UInt64(UInt(bitPattern: words))
      return body(description)
    }
    for (index, bits) in held { bitmap.merge(word: index, bits) }
    return result
  }

  /// Calls `body` with the address of the words, for a kernel that only sets bits.
  static func withAddress(
    _ bitmap: inout QueryBitmap, _ body: (UInt64) -> Int32
  ) -> Int32 {
    unsafe bitmap.withUnsafeMutableWords { words in
      body(UInt64(UInt(bitPattern: words)))
    }
  }
}
