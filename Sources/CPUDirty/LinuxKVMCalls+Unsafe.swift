import Addressing
import CSmudgeLinux

/// The calls, made for real.
///
/// Unsafe because the kernel is handed addresses of arrays, and a ring is read by address. Sound
/// because an array outlives its call and is as large as the kernel is told; a ring is mapped for
/// as long as its owner takes from it.
@safe public struct LinuxKVMCalls: KVMCalls {
  /// Entries taken from a ring at a time.
  static let entryCountMax = 512

  public init() {}

  public func checkExtension(_ vm: Int32, _ capability: UInt32) -> Int32 {
    smudge_kvm_check_extension(vm, capability)
  }

  public func enableCapability(_ vm: Int32, _ capability: UInt32, _ argument: UInt64) -> Int32 {
    smudge_kvm_enable_capability(vm, capability, argument)
  }

  public func setFlags(_ vm: Int32, _ slot: KVMSlot, _ flags: UInt32) -> Int32 {
    guard let byteCount = slot.gpa.byteCount else { return -ErrorNumber.einval }
    return smudge_kvm_set_memory_region(
      vm, slot.number, flags, slot.gpa.first.rawValue, byteCount, slot.hvaFirst.rawValue)
  }

  public func getDirtyLog(_ vm: Int32, slot: UInt32, into words: inout [UInt64]) -> Int32 {
    unsafe words.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return -ErrorNumber.einval }
      return unsafe smudge_kvm_get_dirty_log(vm, slot, base)
    }
  }

  public func clearDirtyLog(
    _ vm: Int32, slot: UInt32, words: [UInt64], wordRange: Range<Int>, pageCount: UInt32
  ) -> Int32 {
    precondition(words.indices.contains(wordRange), "the words to clear are not there")
    return unsafe words.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return -ErrorNumber.einval }
      return unsafe smudge_kvm_clear_dirty_log(
        vm, slot, UInt64(wordRange.lowerBound) * 64, pageCount, base + wordRange.lowerBound)
    }
  }

  public func resetDirtyRings(_ vm: Int32) -> Int32 { smudge_kvm_reset_dirty_rings(vm) }

  public func mapRing(_ vcpu: Int32, byteCount: UInt64) -> Int64 {
    smudge_kvm_map_ring(vcpu, byteCount)
  }

  public func unmapRing(_ address: UInt64, byteCount: UInt64) {
    smudge_kvm_unmap_ring(address, byteCount)
  }

  public func takeEntries(
    _ ring: UInt64, entryCount: UInt32, position: inout UInt32, into entries: inout [KVMRingEntry]
  ) {
    unsafe withUnsafeTemporaryAllocation(
      of: smudge_kvm_dirty_gfn.self, capacity: Self.entryCountMax
    ) { buffer in
      guard let base = buffer.baseAddress else { return }
      // What the guest dirties while this reads is bounded by the ring: nothing is reused before
      // the reset.
      while true {
        let count = unsafe smudge_kvm_ring_take(ring, entryCount, &position, base, buffer.count)
        for index in 0..<count {
          let taken = unsafe buffer[index]
          entries.append(KVMRingEntry(slot: taken.slot, page: taken.offset))
        }
        if count < buffer.count { return }
      }
    }
  }
}
