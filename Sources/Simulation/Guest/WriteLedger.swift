public import Addressing
import PageBitmap
import Locking

/// The ground truth of which pages devices and vCPUs wrote: what a verdict is held against. No part
/// of the tracker sees it.
public final class WriteLedger: Sendable {
  public enum Writer: Hashable, Sendable { case vcpu, device }

  public let layout: GuestLayout
  private let vcpuPages: Mutex<PageBitmap>
  private let devicePages: Mutex<PageBitmap>

  /// - Precondition: memory for two bits a page can be had.
  public init(layout: GuestLayout) {
    self.layout = layout
    vcpuPages = Mutex(Self.bitmap(layout))
    devicePages = Mutex(Self.bitmap(layout))
  }

  private static func bitmap(_ layout: GuestLayout) -> PageBitmap {
    do {
      return try PageBitmap(pageCount: layout.pageCount)
    } catch {
      preconditionFailure("the ledger: \(error)")
    }
  }

  /// - Precondition: `range` lies in one RAM region.
  public func record(_ range: GPARange, by writer: Writer) {
    guard let first = layout.page(of: range.first), let last = layout.page(of: range.last),
      first <= last
    else { preconditionFailure("a write outside RAM") }
    switch writer {
    case .vcpu: vcpuPages.withLock { _ = $0.insert(first: first, last: last) }
    case .device: devicePages.withLock { _ = $0.insert(first: first, last: last) }
    }
  }

  /// Forgets everything: what counts is what is written from here on.
  public func reset() {
    vcpuPages.withLock { $0.removeAll() }
    devicePages.withLock { $0.removeAll() }
  }

  /// Forgets what devices wrote. What vCPUs wrote stays: such a page may be found, and sent, for
  /// their sake at any later time.
  public func forgetDeviceWrites() { devicePages.withLock { $0.removeAll() } }

  public func pageCount(writtenBy writer: Writer) -> UInt64 {
    switch writer {
    case .vcpu: vcpuPages.withLock { $0.dirtyCount }
    case .device: devicePages.withLock { $0.dirtyCount }
    }
  }

  public func contains(page: UInt64, writtenBy writer: Writer) -> Bool {
    switch writer {
    case .vcpu: vcpuPages.withLock { $0.contains(page) }
    case .device: devicePages.withLock { $0.contains(page) }
    }
  }

  /// Pages, by number and in order, that devices wrote and no vCPU did: a tracker of vCPU writes
  /// cannot know of them.
  public func pagesOnlyDevicesWrote() -> [UInt64] {
    // Devices first: a page a vCPU writes meanwhile is then left out rather than claimed.
    let written = Self.words(devicePages)
    let vcpu = Self.words(vcpuPages)
    var pages: [UInt64] = []
    for index in written.indices {
      var rest = written[index] & ~vcpu[index]
      while rest != 0 {
        pages.append(UInt64(index) &* 64 &+ UInt64(rest.trailingZeroBitCount))
        rest &= rest &- 1
      }
    }
    return pages
  }

  private static func words(_ pages: borrowing Mutex<PageBitmap>) -> [UInt64] {
    pages.withLock { bitmap in
      bitmap.withWords { span in
        var words: [UInt64] = []
        words.reserveCapacity(span.count)
        for index in 0..<span.count { words.append(span[index]) }
        return words
      }
    }
  }
}
