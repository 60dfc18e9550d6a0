import Addressing
import CPUDirty
import Locking

/// Makes the real calls, but one of them, which fails.
final class FaultyCalls: LinuxCalls {
  let names = Mutex<[String]>([])
  /// Descriptors opened and not closed.
  let open = Mutex<Set<Int32>>([])
  private let failing: Int
  private let errno: Int32
  /// Which calls this fault stands for, empty for all.
  private let only: String?
  private let real = KernelCalls()

  /// - Parameter failing: the number of the call that fails, from 1; 0 for none.
  /// - Parameter only: counts calls of this name alone.
  init(failing: Int = 0, errno: Int32 = 5, only: String? = nil) {
    self.failing = failing
    self.errno = errno
    self.only = only
  }

  var callCount: Int { names.withLock { $0.count } }
  var leakedDescriptorCount: Int { open.withLock { $0.count } }

  private func fails(_ name: String) -> Bool {
    names.withLock { names in
      if only == nil || only == name { names.append(name) }
      return names.count == failing && (only == nil || only == name)
    }
  }

  private func opened(_ descriptor: Int32) -> Int32 {
    if descriptor >= 0 { open.withLock { _ = $0.insert(descriptor) } }
    return descriptor
  }

  func openWriteWatch() -> Int32 {
    fails("userfaultfd") ? -errno : opened(real.openWriteWatch())
  }

  func enableWriteWatch(_ watch: Int32) -> Int32 {
    fails("ioctl UFFDIO_API") ? -errno : real.enableWriteWatch(watch)
  }

  func register(_ range: HVARange, with watch: Int32) -> Int32 {
    fails("ioctl UFFDIO_REGISTER") ? -errno : real.register(range, with: watch)
  }

  func unregister(_ range: HVARange, from watch: Int32) -> Int32 {
    fails("ioctl UFFDIO_UNREGISTER") ? -errno : real.unregister(range, from: watch)
  }

  func openPagemap() -> Int32 {
    fails("open of /proc/self/pagemap") ? -errno : opened(real.openPagemap())
  }

  func takeWritten(
    in range: HVARange, of pagemap: Int32, into runs: inout [HVARange], walkEnd: inout UInt64
  ) -> Int32 {
    fails("ioctl PAGEMAP_SCAN")
      ? -errno : real.takeWritten(in: range, of: pagemap, into: &runs, walkEnd: &walkEnd)
  }

  func close(_ descriptor: Int32) {
    open.withLock { _ = $0.remove(descriptor) }
    real.close(descriptor)
  }
}

/// A scan that never gets anywhere, or answers outside of what it was asked.
struct LyingCalls: LinuxCalls {
  var runs: [HVARange] = []
  var goesOn = false

  func openWriteWatch() -> Int32 { 1000 }
  func enableWriteWatch(_ watch: Int32) -> Int32 { 0 }
  func register(_ range: HVARange, with watch: Int32) -> Int32 { 0 }
  func unregister(_ range: HVARange, from watch: Int32) -> Int32 { 0 }
  func openPagemap() -> Int32 { 1001 }
  func takeWritten(
    in range: HVARange, of pagemap: Int32, into found: inout [HVARange], walkEnd: inout UInt64
  ) -> Int32 {
    found += runs
    if goesOn { walkEnd = range.last.rawValue + 1 }
    return Int32(runs.count)
  }
  func close(_ descriptor: Int32) {}
}
