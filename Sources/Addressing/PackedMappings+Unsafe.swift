/// Mappings as a leaf of a table packs them, in IOVA order, where they lie: for the kernels that
/// read them there. What lies where is told in `bitmap_kernels.h`.
///
/// Unsafe because it points into a table. Sound because only `MappingTable` makes it, and hands it
/// out for the time of a call in which the table does not change; nothing outside this package sees
/// it.
@safe package struct PackedMappings {
  /// Of the first: its value and its extent lie after it.
  package let keys: UnsafePointer<UInt64>
  package let count: UInt64
  /// 4 KiB pages of each when all lie side by side, of one size and with the same permissions; 0
  /// when they do not.
  package let evenPageCount: UInt64
  /// A leaf that is read soon, to ask for it.
  package let ahead: UnsafePointer<UInt64>

  @unsafe package init(
    keys: UnsafePointer<UInt64>, count: UInt64, evenPageCount: UInt64, ahead: UnsafePointer<UInt64>
  ) {
    unsafe self.keys = keys
    self.count = count
    self.evenPageCount = evenPageCount
    unsafe self.ahead = ahead
  }
}
