/// Every bound the program keeps, in one place. Past a limit there is a named error, and what
/// would have been lost is marked dirty.
public enum Limits {
  /// Mappings in one container's table by default: 16 Mi, 64 GiB of 4 KiB pages.
  public static let mappingCountMax = 16 << 20
  /// Retired mappings a table keeps answerable by default.
  public static let retiredMappingCountMax = 64 << 10
  /// Bytes in one mapping: 2^52, 2^40 pages of 4 KiB, the widest guest-physical space of x86.
  public static let mappingByteCountMax: UInt64 = 1 << 52
  /// Pages in one bitmap: 2^40, 128 GiB of bits; far past any memory a host has.
  public static let bitmapPageCountMax: UInt64 = 1 << 40
  /// Bytes in one query's bitmap unless the backend allows less: 256 MiB, the limit of type1
  /// (DIRTY_BITMAP_SIZE_MAX of drivers/vfio/vfio_iommu_type1.c).
  public static let queryBitmapByteCountMax: UInt64 = 256 << 20
  /// Ranges one device DMA log accepts: one 4 KiB page of 16-byte ranges.
  public static let deviceLogRangeCountMax = 256
  /// RAM regions of one guest.
  public static let ramRegionCountMax = 4096
  /// Ranges of RAM that a guest has given back: as many as type1 has mappings (dma_entry_limit).
  public static let discardedRangeCountMax = 64 << 10
  /// Containers of one tracker.
  public static let containerCountMax = 256
  /// Consumers of one guest dirty log.
  public static let consumerCountMax = 16
  /// Events the record keeps by default.
  public static let eventCountMax = 1 << 20
  /// Bytes the record keeps for what does not fit into an event's fixed part, by default.
  public static let eventPayloadByteCountMax = 24 << 20
  /// Bytes of a name or a sentence in a trace; longer ones are cut when they are written.
  public static let traceStringByteCountMax = 4096
  /// Bytes of a line of an ftrace recording; the kernel's are under 1000.
  public static let ftraceLineByteCountMax = 4096
  /// NUMA nodes the log places memory on.
  public static let numaNodeCountMax = 1024
  /// Bytes of one section of the migration stream, header left out.
  public static let streamSectionByteCountMax = 16 << 20
  /// Devices in one migration.
  public static let deviceCountMax = 256
}
