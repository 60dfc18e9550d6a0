public import Addressing
public import GuestDirtyLog
import CSmudgeLinux

/// A memory slot of a VM, as the VMM has set it (KVM_SET_USER_MEMORY_REGION).
public struct KVMSlot: Hashable, Sendable {
  /// The address space in the upper 16 bits.
  public let number: UInt32
  public let gpa: GPARange
  /// Where this process sees `gpa.first`.
  public let hvaFirst: HVA
  /// But KVM_MEM_LOG_DIRTY_PAGES, which this module sets and clears.
  public let flags: UInt32

  public init(number: UInt32, gpa: GPARange, hvaFirst: HVA, flags: UInt32 = 0) {
    self.number = number
    self.gpa = gpa
    self.hvaFirst = hvaFirst
    self.flags = flags & ~UInt32(SMUDGE_KVM_MEM_LOG_DIRTY_PAGES)
  }

  /// - Returns: nil for a region that is not mapped in this process.
  public init?(number: UInt32, _ region: RAMRegion, flags: UInt32 = 0) {
    guard let hva = region.hvaFirst else { return nil }
    self.init(number: number, gpa: region.gpa, hvaFirst: hva, flags: flags)
  }

  var loggingFlags: UInt32 { flags | UInt32(SMUDGE_KVM_MEM_LOG_DIRTY_PAGES) }
}

/// The slots of a VM whose writes are logged, and the calls to it.
struct KVMMachine: Sendable {
  let name: String
  let vm: Int32
  let slots: [KVMSlot]
  let pageSize: PageSize
  let calls: any KVMCalls

  func failed(
    _ operation: String, _ result: Int64, _ slot: KVMSlot? = nil, _ detail: String? = nil
  ) -> CPUDirtyError {
    let errno = Int32(truncatingIfNeeded: -result)
    let place = slot.map { "slot \($0.number) at GPA \($0.gpa): " } ?? ""
    return CPUDirtyError(
      object: name, operation: operation, errno: errno,
      detail: place + (detail ?? Self.meaning(operation, errno)))
  }

  private static func meaning(_ operation: String, _ errno: Int32) -> String {
    switch errno {
    case ErrorNumber.enxio:
      "the dirty ring is on in this VM, which excludes the bitmap; use KVMRingSource"
    case ErrorNumber.enoent: "the slot does not log; somebody has set it again without the flag"
    case ErrorNumber.enotty: "this kernel does not know the call"
    case ErrorNumber.einval where operation == KVMOperation.clear:
      "the pages are not whole groups of 64 up to the slot's end, or it is another slot by now"
    case ErrorNumber.einval where operation == KVMOperation.mapRing:
      "the ring was not enabled before this vCPU was made, or has another size"
    case ErrorNumber.einval: "the VM has no such slot, or another of other memory"
    default: "what was written there since the last collection is not known"
    }
  }

  /// Sets the flag of every slot; on a failure those set are as before.
  func enableLogging() throws(CPUDirtyError) {
    for (index, slot) in slots.enumerated() {
      let result = calls.setFlags(vm, slot, slot.loggingFlags)
      guard result < 0 else { continue }
      for earlier in slots[..<index] { _ = calls.setFlags(vm, earlier, earlier.flags) }
      throw failed(KVMOperation.setMemory, Int64(result), slot)
    }
  }

  func disableLogging() {
    for slot in slots { _ = calls.setFlags(vm, slot, slot.flags) }
  }

  var notStarted: CPUDirtyError {
    CPUDirtyError(object: name, operation: "collect", errno: 0, detail: "it was not started")
  }
}

/// The kernel's names of what this module asks of KVM.
enum KVMOperation {
  static let setMemory = "ioctl KVM_SET_USER_MEMORY_REGION"
  static let enable = "ioctl KVM_ENABLE_CAP"
  static let check = "ioctl KVM_CHECK_EXTENSION"
  static let get = "ioctl KVM_GET_DIRTY_LOG"
  static let clear = "ioctl KVM_CLEAR_DIRTY_LOG"
  static let reset = "ioctl KVM_RESET_DIRTY_RINGS"
  static let mapRing = "mmap of the dirty ring"
}
