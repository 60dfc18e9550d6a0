public import Addressing

/// The calls into Linux that this module makes, so that a test can make each of them fail.
///
/// Each returns what the kernel does: a descriptor or count of 0 and more, or an errno, negative.
public protocol LinuxCalls: Sendable {
  /// `userfaultfd(2)`.
  func openWriteWatch() -> Int32
  /// `ioctl UFFDIO_API` with WP_ASYNC and WP_UNPOPULATED.
  func enableWriteWatch(_ watch: Int32) -> Int32
  /// `ioctl UFFDIO_REGISTER` in write-protect mode.
  func register(_ range: HVARange, with watch: Int32) -> Int32
  /// `ioctl UFFDIO_UNREGISTER`.
  func unregister(_ range: HVARange, from watch: Int32) -> Int32
  /// `open(2)` of `/proc/self/pagemap`.
  func openPagemap() -> Int32
  /// `ioctl PAGEMAP_SCAN` that reports the written pages and protects them again.
  /// - Parameter runs: what it found is appended.
  /// - Parameter walkEnd: set to the first address it has not looked at.
  func takeWritten(
    in range: HVARange, of pagemap: Int32, into runs: inout [HVARange], walkEnd: inout UInt64
  ) -> Int32
  func close(_ descriptor: Int32)
}
