/// One IOVA range, the GPA range behind it and what a device may do there.
///
/// 40 bytes; a table stores it more tightly.
public struct Mapping: Hashable, BitwiseCopyable, Sendable, CustomStringConvertible {
  public let iova: IOVARange
  /// The GPA behind `iova.first`; the rest follows contiguously.
  public let gpaFirst: GPA
  public let permissions: Permissions
  /// When the mapping was made.
  public let generation: Generation

  /// - Precondition: the GPA range does not run past 2^64-1, and permissions are not empty.
  @inlinable public init(
    iova: IOVARange, gpaFirst: GPA, permissions: Permissions, generation: Generation = .init(0)
  ) {
    precondition(
      gpaFirst.advanced(byBytes: iova.lastOffset) != nil, "the GPA range runs past 2^64-1")
    precondition(!permissions.isEmpty, "a mapping grants read, write or both")
    self.iova = iova
    self.gpaFirst = gpaFirst
    self.permissions = permissions
    self.generation = generation
  }

  /// For decoders of values that were checked when they were encoded.
  @inlinable public init(
    checkedIOVA iova: IOVARange, gpaFirst: GPA, permissions: Permissions, generation: Generation
  ) {
    self.iova = iova
    self.gpaFirst = gpaFirst
    self.permissions = permissions
    self.generation = generation
  }

  @inlinable public var gpa: GPARange {
    AddressRange(first: gpaFirst, last: GPA(gpaFirst.rawValue &+ iova.lastOffset))
  }

  @inlinable public var isWritable: Bool { permissions.contains(.write) }

  /// The GPA behind `address`, nil when the mapping does not hold it.
  @inlinable public func translate(_ address: IOVA) -> GPA? {
    guard iova.contains(address) else { return nil }
    return GPA(gpaFirst.rawValue &+ (address.rawValue &- iova.first.rawValue))
  }

  /// The part of this mapping inside `range`, nil when there is none. Keeps the generation.
  @inlinable public func clipped(to range: IOVARange) -> Mapping? {
    guard let part = iova.intersection(range) else { return nil }
    let skipped = part.first.rawValue &- iova.first.rawValue
    return Mapping(
      checkedIOVA: part, gpaFirst: GPA(gpaFirst.rawValue &+ skipped), permissions: permissions,
      generation: generation)
  }

  public var description: String {
    "IOVA \(iova) -> GPA \(gpa) \(permissions) \(generation)"
  }
}
