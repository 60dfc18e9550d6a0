import Addressing

/// Where the fields of `PackedMappings` lie.
///
/// Unsafe because two of them are pointers. Sound because none is followed.
enum PackedLayout {
  static let size = MemoryLayout<PackedMappings>.size
  static let stride = MemoryLayout<PackedMappings>.stride
  /// In the order of `smudge_packed`.
  static let offsets = unsafe [
    MemoryLayout<PackedMappings>.offset(of: \.keys),
    MemoryLayout<PackedMappings>.offset(of: \.count),
    MemoryLayout<PackedMappings>.offset(of: \.evenPageCount),
    MemoryLayout<PackedMappings>.offset(of: \.ahead),
  ]
}
