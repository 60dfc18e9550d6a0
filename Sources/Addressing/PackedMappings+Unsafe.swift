/// Mappings as a leaf of a table packs them, in IOVA order, where they lie: for the kernels that
/// read them there. How a mapping is packed is told in `bitmap_kernels.h`.
///
/// Unsafe because it points into a table. Sound because only `MappingTable` makes it, and hands it
/// out for the time of a call in which the table does not change; nothing outside this package sees
/// it.
@safe package struct PackedMappings {
  /// `count` words.
  package let keys: UnsafePointer<UInt64>
  /// Twice as many.
  package let rest: UnsafePointer<UInt64>
  package let count: Int
  /// The keys of mappings that are read soon, to ask for them.
  package let aheadKeys: UnsafePointer<UInt64>

  @unsafe package init(
    keys: UnsafePointer<UInt64>, rest: UnsafePointer<UInt64>, count: Int,
    aheadKeys: UnsafePointer<UInt64>
  ) {
    unsafe self.keys = keys
    unsafe self.rest = rest
    self.count = count
    unsafe self.aheadKeys = aheadKeys
  }
}
