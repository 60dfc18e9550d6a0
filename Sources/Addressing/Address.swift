/// An address in one of the three address spaces of a virtual machine.
///
/// Terms:
/// - **IOVA**: what a device puts on the bus; translated by the (virtual) IOMMU.
/// - **GPA**: guest-physical; what a migration copies, and what the dirty log is indexed by.
/// - **HVA**: where the VMM sees guest memory in its own address space.
///
/// Invariants:
/// 1. The three are different types. There is no conversion between them; only the mapping table
///    turns an IOVA into a GPA, and only a RAM region turns a GPA into an HVA.
/// 2. No arithmetic on an address wraps: it either is checked and fails, or is provably inside a
///    range that has already been checked.
public protocol Address: Hashable, Comparable, BitwiseCopyable, Sendable, CustomStringConvertible {
  var rawValue: UInt64 { get }
  init(_ rawValue: UInt64)
  /// The name of the address space, as errors print it.
  static var spaceName: String { get }
}

extension Address {
  @inlinable public static func < (left: Self, right: Self) -> Bool {
    left.rawValue < right.rawValue
  }

  /// The address `byteCount` further on, or nil when that is past 2^64-1.
  @inlinable public func advanced(byBytes byteCount: UInt64) -> Self? {
    let (sum, overflow) = rawValue.addingReportingOverflow(byteCount)
    return overflow ? nil : Self(sum)
  }

  /// Bytes from `origin` up to this address, or nil when `origin` lies above.
  @inlinable public func offset(from origin: Self) -> UInt64? {
    let (difference, overflow) = rawValue.subtractingReportingOverflow(origin.rawValue)
    return overflow ? nil : difference
  }

  @inlinable public func isAligned(to pageSize: PageSize) -> Bool {
    rawValue & pageSize.offsetMask == 0
  }

  /// The first byte of the page this address lies in.
  @inlinable public func roundedDown(to pageSize: PageSize) -> Self {
    Self(rawValue & ~pageSize.offsetMask)
  }

  /// The last byte of the page this address lies in; never past 2^64-1.
  @inlinable public func lastOfPage(_ pageSize: PageSize) -> Self {
    Self(rawValue | pageSize.offsetMask)
  }

  /// Lower-case hexadecimal with `0x`, unpadded.
  public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// An I/O virtual address: what a device uses.
public struct IOVA: Address {
  public let rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static var spaceName: String { "IOVA" }
}

/// A guest-physical address.
public struct GPA: Address {
  public let rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static var spaceName: String { "GPA" }
}

/// A host virtual address: where this process sees guest memory.
public struct HVA: Address {
  public let rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static var spaceName: String { "HVA" }
}
