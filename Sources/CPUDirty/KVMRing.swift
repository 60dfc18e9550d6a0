import CSmudgeLinux
public import GuestDirtyLog

/// The dirty rings of a VM: one for each vCPU (KVM_CAP_DIRTY_LOG_RING, Linux 5.11).
public struct KVMRing: Hashable, Sendable {
  /// Of each ring.
  public let entryCount: UInt32

  /// Of one entry in bytes.
  static let entryByteCount = 16

  /// For a VM where the VMM has enabled them itself.
  /// - Precondition: a power of two.
  public init(entryCount: UInt32) {
    precondition(entryCount.nonzeroBitCount == 1, "a ring has a power of two of entries")
    self.entryCount = entryCount
  }

  var byteCount: UInt64 { UInt64(entryCount) * UInt64(Self.entryByteCount) }

  /// Enables them: once for a VM, before its first vCPU.
  /// - Parameter entryCount: a power of two; no more than the kernel has are made.
  /// - Throws: EINVAL when there are vCPUs or rings already.
  public static func enable(
    _ vm: Int32, entryCount: UInt32 = 1 << 16, calls: any KVMCalls = LinuxKVMCalls()
  ) throws(CPUDirtyError) -> KVMRing {
    let wanted = KVMRing(entryCount: entryCount)
    // The first is for machines that order loads and stores weakly; x86 has both.
    for capability in [SMUDGE_KVM_CAP_DIRTY_LOG_RING_ACQ_REL, SMUDGE_KVM_CAP_DIRTY_LOG_RING] {
      let byteCountMax = calls.checkExtension(vm, UInt32(capability))
      guard byteCountMax >= entryByteCount else { continue }
      let largest = UInt32(byteCountMax) / UInt32(entryByteCount)
      let ring = KVMRing(entryCount: min(wanted.entryCount, powerOfTwo(notAbove: largest)))
      let result = calls.enableCapability(vm, UInt32(capability), ring.byteCount)
      guard result >= 0 else {
        throw CPUDirtyError(
          object: "KVM dirty ring", operation: KVMOperation.enable, errno: -result,
          detail: "\(ring.byteCount) bytes for each vCPU; the VM has vCPUs or rings already, or a"
            + " ring is less than a page")
      }
      return ring
    }
    throw CPUDirtyError(
      object: "KVM dirty ring", operation: KVMOperation.check, errno: 0,
      detail: "the kernel has none (Linux 5.11); use KVMBitmapSource")
  }

  private static func powerOfTwo(notAbove count: UInt32) -> UInt32 {
    1 << (31 - UInt32(count.leadingZeroBitCount))
  }
}
