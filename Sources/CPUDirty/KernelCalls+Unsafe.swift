public import Addressing
import CSmudgeLinux
import Glibc

/// The calls, made for real.
///
/// Unsafe because the kernel writes into a buffer by address. Sound because the buffer outlives the
/// call, its size is what the kernel is told, and only what the kernel says it filled is read.
@safe public struct KernelCalls: LinuxCalls {
  /// Regions one scan reports before it stops early.
  static let regionCountMax = 1024

  public init() {}

  public func openWriteWatch() -> Int32 { smudge_write_watch_open() }

  public func enableWriteWatch(_ watch: Int32) -> Int32 { smudge_write_watch_enable(watch) }

  public func register(_ range: HVARange, with watch: Int32) -> Int32 {
    guard let byteCount = range.byteCount else { return -EINVAL }
    return smudge_write_watch_register(watch, range.first.rawValue, byteCount)
  }

  public func unregister(_ range: HVARange, from watch: Int32) -> Int32 {
    guard let byteCount = range.byteCount else { return -EINVAL }
    return smudge_write_watch_unregister(watch, range.first.rawValue, byteCount)
  }

  public func openPagemap() -> Int32 { smudge_pagemap_open() }

  public func takeWritten(
    in range: HVARange, of pagemap: Int32, into runs: inout [HVARange], walkEnd: inout UInt64
  ) -> Int32 {
    guard range.last.rawValue != .max else { return -EINVAL }
    return unsafe withUnsafeTemporaryAllocation(
      of: smudge_page_region.self, capacity: Self.regionCountMax
    ) { buffer in
      guard let regions = buffer.baseAddress else { return -ENOMEM }
      let count = unsafe smudge_pagemap_take_written(
        pagemap, range.first.rawValue, range.last.rawValue &+ 1, regions, buffer.count, &walkEnd)
      guard count > 0 else { return Int32(truncatingIfNeeded: count) }
      for index in 0..<min(Int(count), buffer.count) {
        let region = unsafe buffer[index]
        guard region.start < region.end else { continue }
        runs.append(AddressRange(first: HVA(region.start), last: HVA(region.end &- 1)))
      }
      return Int32(truncatingIfNeeded: count)
    }
  }

  public func close(_ descriptor: Int32) { _ = Glibc.close(descriptor) }
}
