/// A power-of-two page size of at least 4 KiB.
public struct PageSize: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// log2 of the size in bytes, 12 to 62.
  public let shift: UInt64

  /// Nil unless `bytes` is a power of two from 4 KiB to 2^62.
  @inlinable public init?(bytes: UInt64) {
    guard bytes >= 4096, bytes <= 1 << 62, bytes.nonzeroBitCount == 1 else { return nil }
    self.shift = UInt64(bytes.trailingZeroBitCount)
  }

  @inlinable init(uncheckedShift shift: UInt64) { self.shift = shift }

  public static let fourKiB = PageSize(uncheckedShift: 12)
  public static let twoMiB = PageSize(uncheckedShift: 21)
  public static let oneGiB = PageSize(uncheckedShift: 30)

  @inlinable public var bytes: UInt64 { 1 &<< shift }
  /// The bits of an address that lie inside a page.
  @inlinable public var offsetMask: UInt64 { bytes &- 1 }

  @inlinable public static func < (left: PageSize, right: PageSize) -> Bool {
    left.shift < right.shift
  }

  /// `4 KiB`, `2 MiB`, `1 GiB`.
  public var description: String {
    switch shift {
    case ..<20: "\(bytes >> 10) KiB"
    case ..<30: "\(bytes >> 20) MiB"
    default: "\(bytes >> 30) GiB"
    }
  }
}

/// The page sizes an IOMMU supports, one bit each, as `iova_pgsizes` and `pgsize_bitmap` of
/// `linux/vfio.h` state them. Sizes under 4 KiB are ignored.
public struct PageSizeSet: Hashable, Sendable {
  public let mask: UInt64
  @inlinable public init(mask: UInt64) { self.mask = mask & ~0xfff }
  public init(_ sizes: PageSize...) { self.mask = sizes.reduce(0) { $0 | $1.bytes } }

  public var smallest: PageSize? {
    mask == 0 ? nil : PageSize(bytes: 1 << UInt64(mask.trailingZeroBitCount))
  }

  @inlinable public func contains(_ size: PageSize) -> Bool { mask & size.bytes != 0 }
}
