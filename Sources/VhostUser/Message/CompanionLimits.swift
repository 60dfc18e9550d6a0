/// What a front-end may make the companion keep. Past a limit there is a named error.
public enum CompanionLimits {
  /// Regions in one SET_MEM_TABLE (VHOST_MEMORY_BASELINE_NREGIONS of the specification).
  public static let tableRegionCountMax = 8
  /// Regions in all, added one by one: as many memory slots as QEMU uses on any machine.
  public static let memorySlotCountMax = 512
  /// Rings: their index has 8 bits in a message that carries a descriptor.
  public static let ringCountMax: UInt32 = 256
  /// Bytes of the device's configuration space (VHOST_USER_MAX_CONFIG_SIZE).
  public static let configurationByteCount = 256
  /// Descriptors in one message: one for each region of a table.
  public static let descriptorCountMax = tableRegionCountMax
  /// Bytes of a message's header.
  public static let headerByteCount = 12
  /// Bytes of the largest payload: a configuration space with its header.
  public static let payloadByteCountMax = 12 + configurationByteCount
  /// Bytes of a dirty log: bits of 2^40 pages, 4 PiB of guest memory.
  public static let logByteCountMax: UInt64 = 1 << 37
}
