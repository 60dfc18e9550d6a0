public import Addressing

/// One stretch of guest RAM.
public struct RAMRegion: Hashable, Sendable, CustomStringConvertible {
  /// Unique in a guest; the same on source and destination.
  public let name: String
  public let gpa: GPARange
  /// Where this process sees `gpa.first`; nil when it does not.
  public let hvaFirst: HVA?
  /// The NUMA node its memory is on; nil when that does not matter.
  public let node: Int?
  /// The guest, and its devices, may only read it.
  public let isReadOnly: Bool

  public init(
    name: String, gpa: GPARange, hvaFirst: HVA? = nil, node: Int? = nil, isReadOnly: Bool = false
  ) {
    self.name = name
    self.gpa = gpa
    self.hvaFirst = hvaFirst
    self.node = node
    self.isReadOnly = isReadOnly
  }

  /// A region by its first address and size.
  /// - Throws: `zeroSize`, or `pastAddressSpace` when it would run past 2^64-1.
  public init(
    name: String, gpaFirst: GPA, byteCount: UInt64, hvaFirst: HVA? = nil, node: Int? = nil,
    isReadOnly: Bool = false
  ) throws(GuestDirtyLogError) {
    guard byteCount != 0 else { throw .zeroSize(name, at: gpaFirst) }
    guard let gpa = GPARange(first: gpaFirst, byteCount: byteCount) else {
      throw .pastAddressSpace(name, at: gpaFirst, byteCount: byteCount)
    }
    self.init(name: name, gpa: gpa, hvaFirst: hvaFirst, node: node, isReadOnly: isReadOnly)
  }

  public var description: String { "RAM \(name) at GPA \(gpa)" }
}
