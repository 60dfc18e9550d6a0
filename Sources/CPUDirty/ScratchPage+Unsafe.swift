import Addressing
import Glibc
import GuestDirtyLog

/// A page of memory to try things on.
///
/// Unsafe because it is mapped and unmapped by address. Sound because nobody reads or writes it,
/// and the one owner unmaps it once.
@safe struct ScratchPage: ~Copyable {
  private static let byteCount = 4096
  private let address: UnsafeMutableRawPointer

  init?() {
    let mapped = unsafe mmap(
      nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let mapped = unsafe mapped, unsafe mapped != MAP_FAILED else { return nil }
    unsafe address = mapped
  }

  deinit { unsafe _ = munmap(address, Self.byteCount) }

  /// The page as guest memory at GPA 0.
  var region: RAMRegion {
    RAMRegion(
      name: "scratch page", gpa: AddressRange(first: GPA(0), last: GPA(UInt64(Self.byteCount) - 1)),
      hvaFirst: HVA(unsafe UInt64(UInt(bitPattern: address))))
  }
}
