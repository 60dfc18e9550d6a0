/// A closed range of addresses, `first` to `last`, both inside it; never empty.
///
/// Stored as first and last because a range may end at 2^64-1, where an exclusive end, and the size
/// of the whole space, have no 64-bit value.
public struct AddressRange<A: Address>: Hashable, BitwiseCopyable, Sendable, CustomStringConvertible
{
  public let first: A
  public let last: A

  /// - Precondition: `first <= last`.
  @inlinable public init(first: A, last: A) {
    precondition(first <= last, "a range needs first <= last")
    self.first = first
    self.last = last
  }

  /// Nil when `byteCount` is 0 or the range would run past 2^64-1.
  @inlinable public init?(first: A, byteCount: UInt64) {
    guard byteCount != 0, let last = first.advanced(byBytes: byteCount &- 1) else { return nil }
    self.first = first
    self.last = last
  }

  /// Every address there is.
  @inlinable public static var wholeSpace: AddressRange {
    AddressRange(first: A(0), last: A(UInt64.max))
  }

  /// Byte count less one: the one size every range can state in 64 bits.
  @inlinable public var lastOffset: UInt64 { last.rawValue &- first.rawValue }

  /// Bytes in the range, nil for the whole 2^64-byte space.
  @inlinable public var byteCount: UInt64? {
    lastOffset == UInt64.max ? nil : lastOffset &+ 1
  }

  /// Pages touched by the range, the first and last counted even when touched in part.
  @inlinable public func pageCount(_ pageSize: PageSize) -> UInt64 {
    (last.rawValue &>> pageSize.shift) &- (first.rawValue &>> pageSize.shift) &+ 1
  }

  /// True when the range begins and ends on page boundaries.
  @inlinable public func isAligned(to pageSize: PageSize) -> Bool {
    first.isAligned(to: pageSize) && last.rawValue & pageSize.offsetMask == pageSize.offsetMask
  }

  /// The smallest range of whole pages around this one.
  @inlinable public func expanded(to pageSize: PageSize) -> AddressRange {
    AddressRange(first: first.roundedDown(to: pageSize), last: last.lastOfPage(pageSize))
  }

  /// The largest range of whole pages inside this one, nil when there is none.
  public func shrunk(to pageSize: PageSize) -> AddressRange? {
    let roundedFirst: UInt64
    if first.isAligned(to: pageSize) {
      roundedFirst = first.rawValue
    } else {
      let (next, overflow) = first.lastOfPage(pageSize).rawValue.addingReportingOverflow(1)
      if overflow { return nil }
      roundedFirst = next
    }
    let roundedLast: UInt64
    if last.rawValue & pageSize.offsetMask == pageSize.offsetMask {
      roundedLast = last.rawValue
    } else {
      let pageFirst = last.roundedDown(to: pageSize).rawValue
      if pageFirst == 0 { return nil }
      roundedLast = pageFirst &- 1
    }
    guard roundedFirst <= roundedLast else { return nil }
    return AddressRange(first: A(roundedFirst), last: A(roundedLast))
  }

  @inlinable public func contains(_ address: A) -> Bool { first <= address && address <= last }

  @inlinable public func contains(_ other: AddressRange) -> Bool {
    first <= other.first && other.last <= last
  }

  @inlinable public func overlaps(_ other: AddressRange) -> Bool {
    first <= other.last && other.first <= last
  }

  @inlinable public func intersection(_ other: AddressRange) -> AddressRange? {
    guard overlaps(other) else { return nil }
    return AddressRange(first: max(first, other.first), last: min(last, other.last))
  }

  /// True when `next` begins at the address after this range's last.
  @inlinable public func isFollowed(by next: AddressRange) -> Bool {
    last.rawValue != UInt64.max && next.first.rawValue == last.rawValue &+ 1
  }

  /// `first-last`, both inclusive, as `info mtree` prints them.
  public var description: String { "\(first)-\(last)" }
}

public typealias IOVARange = AddressRange<IOVA>
public typealias GPARange = AddressRange<GPA>
public typealias HVARange = AddressRange<HVA>
