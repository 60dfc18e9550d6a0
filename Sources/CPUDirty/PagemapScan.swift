import Addressing
public import GuestDirtyLog

/// Whether this kernel can tell which pages of a process were written.
public enum PagemapScan {
  public enum Availability: Sendable {
    case available
    /// What failed, and which kernel has it.
    case unavailable(CPUDirtyError)
  }

  /// Tries it on one page of its own.
  public static func availability(calls: any LinuxCalls = KernelCalls()) -> Availability {
    guard let page = ScratchPage() else {
      return .unavailable(
        CPUDirtyError(
          object: "PAGEMAP_SCAN", operation: "mmap", errno: 0, detail: "no memory for a test page"))
    }
    let source = PagemapScanSource(regions: [page.region], calls: calls)
    do throws(CPUDirtyError) {
      try source.start()
      source.stop()
      return .available
    } catch {
      return .unavailable(error)
    }
  }

  /// What an errno of one of the calls means, and what helps.
  static func reason(_ operation: String, _ errno: Int32, _ range: HVARange?) -> String {
    let place = range.map { "HVA \($0): " } ?? ""
    return place + meaning(operation, errno)
  }

  private static func meaning(_ operation: String, _ errno: Int32) -> String {
    let needs =
      "Linux 6.7 and later have it (CONFIG_USERFAULTFD, CONFIG_PROC_PAGE_MONITOR, "
      + "CONFIG_HAVE_ARCH_USERFAULTFD_WP)"
    let isScan = operation.hasSuffix("PAGEMAP_SCAN")
    switch errno {
    case ErrorNumber.enosys: return "the kernel has no userfaultfd; " + needs
    case ErrorNumber.enotty: return "the kernel does not know this call; " + needs
    case ErrorNumber.einval where operation == "userfaultfd":
      return "the kernel does not know UFFD_USER_MODE_ONLY; " + needs
    case ErrorNumber.einval where operation.hasSuffix("UFFDIO_API"):
      return "the kernel lacks asynchronous write protection; " + needs
    case ErrorNumber.einval where operation.hasSuffix("UFFDIO_REGISTER"):
      return "this memory can not be write-protected, or the kernel can not for shared memory; "
        + needs
    case ErrorNumber.eperm where isScan: return "a page there is not watched any more"
    case ErrorNumber.eperm:
      return "this process may not; a security policy forbids it. " + needs
    case ErrorNumber.ebusy: return "the memory is watched by another userfaultfd already"
    default:
      return isScan
        ? "what was written there since the last scan is not known" : "nothing is watched"
    }
  }
}

/// Errors of Linux by number (`asm-generic/errno-base.h`, `errno.h`).
enum ErrorNumber {
  static let eperm: Int32 = 1
  static let enoent: Int32 = 2
  static let enxio: Int32 = 6
  static let ebusy: Int32 = 16
  static let einval: Int32 = 22
  static let enotty: Int32 = 25
  static let enosys: Int32 = 38
}
