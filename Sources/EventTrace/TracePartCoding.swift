import Addressing

// How the parts of events are laid out in a payload, in the order of the lines below.

extension PayloadWriter {
  mutating func container(_ container: TraceContainer) {
    string(container.name)
    boolean(container.isOwnedByVMM)
    boolean(container.isIdentity)
    integer(container.pageSizes.mask)
    boolean(container.splitsMappings)
    count(container.mappingCountMax)
    ranges(container.validRanges)
    boolean(container.hasAtomicUnmap)
    integer(container.unmapBitmapByteCountMax)
    logs(container.logs)
  }

  mutating func logs(_ logs: [TraceLog]) {
    integer(UInt64(logs.count))
    for log in logs {
      string(log.name)
      bytes.append(log.scope)
      integer(log.pageSizes.mask)
      integer(log.queryBitmapByteCountMax)
      boolean(log.mayCrossHoles)
      boolean(log.mayCutMapping)
      boolean(log.canPeek)
      count(log.rangeCountMax)
      boolean(log.isAskedAfterUnmap)
    }
  }

  /// The GPA range is in the slot.
  mutating func region(_ region: TraceRegion) {
    string(region.name)
    optional(region.hvaFirst?.rawValue)
    count(region.node)
    boolean(region.isReadOnly)
  }

  mutating func mappings(_ mappings: [Mapping]) {
    integer(UInt64(mappings.count))
    for mapping in mappings {
      integer(mapping.iova.first.rawValue)
      integer(mapping.iova.lastOffset)
      integer(mapping.gpaFirst.rawValue)
      bytes.append(mapping.permissions.rawValue)
      integer(mapping.generation.rawValue)
    }
  }

  mutating func failure(_ failure: TraceFailure?) {
    boolean(failure != nil)
    guard let failure else { return }
    integer(UInt64(UInt32(bitPattern: failure.errno)))
    boolean(failure.isPartial)
    string(failure.detail)
  }
}

extension PayloadReader {
  mutating func container() throws(PayloadFault) -> TraceContainer {
    TraceContainer(
      name: try string(), isOwnedByVMM: try boolean(), isIdentity: try boolean(),
      pageSizes: PageSizeSet(mask: try integer()), splitsMappings: try boolean(),
      mappingCountMax: try count(), validRanges: try ranges(IOVA.self),
      hasAtomicUnmap: try boolean(), unmapBitmapByteCountMax: try integer(), logs: try logs())
  }

  mutating func logs() throws(PayloadFault) -> [TraceLog] {
    var logs: [TraceLog] = []
    for _ in 0..<(try elementCount(byteCountMin: 9)) {
      logs.append(
        TraceLog(
          name: try string(), scope: try littleEndian(UInt8.self),
          pageSizes: PageSizeSet(mask: try integer()), queryBitmapByteCountMax: try integer(),
          mayCrossHoles: try boolean(), mayCutMapping: try boolean(), canPeek: try boolean(),
          rangeCountMax: try count(), isAskedAfterUnmap: try boolean()))
    }
    return logs
  }

  mutating func region(_ gpa: GPARange) throws(PayloadFault) -> TraceRegion {
    TraceRegion(
      name: try string(), gpa: gpa, hvaFirst: try optional().map { HVA($0) }, node: try count(),
      isReadOnly: try boolean())
  }

  mutating func mappings() throws(PayloadFault) -> [Mapping] {
    var mappings: [Mapping] = []
    let count = try elementCount(byteCountMin: 5)
    mappings.reserveCapacity(count)
    for _ in 0..<count {
      let iova = try sizedRange()
      let gpaFirst = GPA(try integer())
      let permissions = try Self.permissions(try littleEndian(UInt8.self))
      guard gpaFirst.advanced(byBytes: iova.lastOffset) != nil else { throw .outOfRange }
      mappings.append(
        Mapping(
          checkedIOVA: iova, gpaFirst: gpaFirst, permissions: permissions,
          generation: Generation(try integer())))
    }
    return mappings
  }

  /// First, and last less first.
  private mutating func sizedRange() throws(PayloadFault) -> IOVARange {
    let first = try integer()
    let (last, wraps) = first.addingReportingOverflow(try integer())
    guard !wraps else { throw .outOfRange }
    return AddressRange(first: IOVA(first), last: IOVA(last))
  }

  mutating func unmapAnswer() throws(PayloadFault) -> UnmapAnswer {
    UnmapAnswer(window: try sizedRange(), dirty: try ranges(IOVA.self))
  }

  mutating func failure() throws(PayloadFault) -> TraceFailure? {
    guard try boolean() else { return nil }
    guard let errno = UInt32(exactly: try integer()) else { throw .outOfRange }
    return TraceFailure(
      errno: Int32(bitPattern: errno), isPartial: try boolean(), detail: try string())
  }

  static func permissions(_ bits: UInt8) throws(PayloadFault) -> Permissions {
    guard bits != 0, bits & ~Permissions.readWrite.rawValue == 0 else { throw .outOfRange }
    return Permissions(rawValue: bits)
  }
}
