import Addressing
import CTestLinux
public import GuestDirtyLog

/// A guest in real mode under KVM that adds one to the first byte of each page it is told. Pages 16
/// to 255 may be its memory.
///
/// Unsafe because C is handed the address of an array. Sound because it is read during the call
/// only, for as many elements as there are.
@safe public final class TinyGuest {
  public struct Refusal: Error, Hashable, CustomStringConvertible {
    public let operation: String
    public let errno: Int32
    public var description: String { "/dev/kvm: \(operation) failed with errno \(errno)" }
  }

  public enum Stop: Hashable, Sendable { case done, ringFull }

  public static let pages =
    Int(SMUDGE_TINY_GUEST_PAGE_FIRST)..<Int(SMUDGE_TINY_GUEST_PAGE_END)
  private var guest = smudge_tiny_guest()
  public var vm: Int32 { guest.vm }
  public var vcpu: Int32 { guest.vcpu }

  /// Why this machine can not run one; nil when it can.
  public static let unavailable: Refusal? = {
    do throws(Refusal) {
      try TinyGuest().addVCPU()
      return nil
    } catch {
      return error
    }
  }()

  /// A VM without vCPU.
  public init() throws(Refusal) {
    let result = unsafe smudge_tiny_guest_make(&guest)
    guard result >= 0 else { throw Refusal(operation: "KVM_CREATE_VM", errno: -result) }
  }

  deinit { unsafe smudge_tiny_guest_close(&guest) }

  public func addVCPU() throws(Refusal) {
    let result = unsafe smudge_tiny_guest_add_vcpu(&guest)
    guard result >= 0 else { throw Refusal(operation: "KVM_CREATE_VCPU", errno: -result) }
  }

  /// - Parameter region: mapped in this process, inside ``pages``.
  public func addMemory(_ region: RAMRegion, slot: UInt32) throws(Refusal) {
    let result = unsafe smudge_tiny_guest_add_memory(
      &guest, slot, region.gpa.first.rawValue / 4096, (region.gpa.lastOffset / 4096) + 1,
      region.hvaFirst?.rawValue ?? 0)
    guard result >= 0 else {
      throw Refusal(operation: "KVM_SET_USER_MEMORY_REGION", errno: -result)
    }
  }

  /// The guest writes to `written`, in order, by page number.
  public func write(_ written: [Int]) throws(Refusal) -> Stop {
    precondition(written.allSatisfy(Self.pages.contains), "real mode reaches 1 MiB")
    return written.isEmpty ? .done : try run(written.map { UInt16($0) })
  }

  /// Writes what was left when the ring was full.
  public func goOn() throws(Refusal) -> Stop { try run([]) }

  private func run(_ list: [UInt16]) throws(Refusal) -> Stop {
    let result = unsafe list.withUnsafeBufferPointer { buffer in
      var none: UInt16 = 0
      if let base = buffer.baseAddress, buffer.count > 0 {
        return unsafe smudge_tiny_guest_write(&guest, base, buffer.count)
      }
      return unsafe smudge_tiny_guest_write(&guest, &none, 0)
    }
    guard result >= 0 else { throw Refusal(operation: "KVM_RUN", errno: -result) }
    return result == 0 ? .done : .ringFull
  }
}
