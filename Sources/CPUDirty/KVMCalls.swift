/// The calls into KVM that this module makes, all of them, so that a test can make each of them
/// fail, and can be the kernel.
///
/// Each returns what the kernel does: 0 or more, or an errno, negative.
public protocol KVMCalls: Sendable {
  /// `ioctl KVM_CHECK_EXTENSION` of a VM.
  func checkExtension(_ vm: Int32, _ capability: UInt32) -> Int32
  /// `ioctl KVM_ENABLE_CAP` of a VM, with its first argument.
  func enableCapability(_ vm: Int32, _ capability: UInt32, _ argument: UInt64) -> Int32
  /// `ioctl KVM_SET_USER_MEMORY_REGION` of a slot as it is, but its flags.
  func setFlags(_ vm: Int32, _ slot: KVMSlot, _ flags: UInt32) -> Int32
  /// `ioctl KVM_GET_DIRTY_LOG`.
  /// - Parameter words: as many as the slot has groups of 64 pages; all are written.
  func getDirtyLog(_ vm: Int32, slot: UInt32, into words: inout [UInt64]) -> Int32
  /// `ioctl KVM_CLEAR_DIRTY_LOG` of the words `words` from `firstWord` on, a bit a page.
  func clearDirtyLog(
    _ vm: Int32, slot: UInt32, words: [UInt64], wordRange: Range<Int>, pageCount: UInt32
  ) -> Int32
  /// `ioctl KVM_RESET_DIRTY_RINGS`. Returns how many entries were reset.
  func resetDirtyRings(_ vm: Int32) -> Int32
  /// `mmap(2)` of a vCPU's ring. Returns its address, or an errno, negative.
  func mapRing(_ vcpu: Int32, byteCount: UInt64) -> Int64
  func unmapRing(_ address: UInt64, byteCount: UInt64)
  /// Takes entries from `position` on while they are dirty, in order, and gives them back.
  func takeEntries(
    _ ring: UInt64, entryCount: UInt32, position: inout UInt32, into entries: inout [KVMRingEntry]
  )
}

/// A page that a vCPU wrote, as its ring says.
public struct KVMRingEntry: Hashable, Sendable {
  /// The address space in the upper 16 bits.
  public let slot: UInt32
  /// In pages, from the slot's first.
  public let page: UInt64

  public init(slot: UInt32, page: UInt64) {
    self.slot = slot
    self.page = page
  }
}
