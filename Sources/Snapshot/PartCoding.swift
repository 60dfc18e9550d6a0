package import Addressing
package import GuestDirtyLog

// How the parts of events are laid out in a payload, in the order of the lines below.

extension PayloadWriter {
  package mutating func container(_ container: TraceContainer) {
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

  package mutating func logs(_ logs: [TraceLog]) {
    integer(UInt64(logs.count))
    for log in logs {
      string(log.name)
      integer(log.identity)
      bytes.append(log.scope)
      integer(log.pageSizes.mask)
      integer(log.queryBitmapByteCountMax)
      boolean(log.mayCrossHoles)
      boolean(log.mayCutMapping)
      boolean(log.canPeek)
      count(log.rangeCountMax)
      let hasGranule = log.granulePageCount != 1 || log.granulePageSize != .fourKiB
      bytes.append((log.isAskedAfterUnmap ? 1 : 0) | (hasGranule ? 2 : 0))
      guard hasGranule else { continue }
      integer(log.granulePageCount)
      integer(log.granulePageSize.bytes)
    }
  }

  /// The GPA range is in the slot.
  package mutating func region(_ region: RAMRegion) {
    string(region.name)
    optional(region.hvaFirst?.rawValue)
    count(region.node)
    boolean(region.isReadOnly)
  }

  package mutating func failure(_ failure: TraceFailure?) {
    boolean(failure != nil)
    guard let failure else { return }
    integer(UInt64(UInt32(bitPattern: failure.errno)))
    bytes.append((failure.isPartial ? 1 : 0) | (failure.isGone ? 2 : 0))
    string(failure.detail)
  }
}

extension PayloadReader {
  package mutating func container() throws(PayloadFault) -> TraceContainer {
    TraceContainer(
      name: try string(), isOwnedByVMM: try boolean(), isIdentity: try boolean(),
      pageSizes: PageSizeSet(mask: try integer()), splitsMappings: try boolean(),
      mappingCountMax: try count(), validRanges: try ranges(IOVA.self),
      hasAtomicUnmap: try boolean(), unmapBitmapByteCountMax: try integer(), logs: try logs())
  }

  package mutating func logs() throws(PayloadFault) -> [TraceLog] {
    var logs: [TraceLog] = []
    for _ in 0..<(try elementCount(byteCountMin: 10)) {
      var log = TraceLog(
        name: try string(), identity: try integer(), scope: try littleEndian(UInt8.self),
        pageSizes: PageSizeSet(mask: try integer()), queryBitmapByteCountMax: try integer(),
        mayCrossHoles: try boolean(), mayCutMapping: try boolean(), canPeek: try boolean(),
        rangeCountMax: try count())
      try readLast(of: &log)
      logs.append(log)
    }
    return logs
  }

  /// A byte that was a boolean before logs had granules.
  private mutating func readLast(of log: inout TraceLog) throws(PayloadFault) {
    let flags = try littleEndian(UInt8.self)
    guard flags <= 3 else { throw .outOfRange }
    log.isAskedAfterUnmap = flags & 1 != 0
    guard flags & 2 != 0 else { return }
    log.granulePageCount = try integer()
    guard let pageSize = PageSize(bytes: try integer()),
      log.granulePageCount.nonzeroBitCount == 1, log.granulePageCount <= 1 << 20
    else { throw .outOfRange }
    log.granulePageSize = pageSize
  }

  package mutating func region(_ gpa: GPARange) throws(PayloadFault) -> RAMRegion {
    RAMRegion(
      name: try string(), gpa: gpa, hvaFirst: try optional().map { HVA($0) }, node: try count(),
      isReadOnly: try boolean())
  }

  /// First, and last less first.
  package mutating func sizedRange() throws(PayloadFault) -> IOVARange {
    let first = try integer()
    let (last, wraps) = first.addingReportingOverflow(try integer())
    guard !wraps else { throw .outOfRange }
    return AddressRange(first: IOVA(first), last: IOVA(last))
  }

  package mutating func failure() throws(PayloadFault) -> TraceFailure? {
    guard try boolean() else { return nil }
    guard let errno = UInt32(exactly: try integer()) else { throw .outOfRange }
    // It was a boolean before errors said what is gone.
    let flags = try littleEndian(UInt8.self)
    guard flags <= 3 else { throw .outOfRange }
    return TraceFailure(
      errno: Int32(bitPattern: errno), isPartial: flags & 1 != 0, isGone: flags & 2 != 0,
      detail: try string())
  }

  package static func permissions(_ bits: UInt8) throws(PayloadFault) -> Permissions {
    guard bits != 0, bits & ~Permissions.readWrite.rawValue == 0 else { throw .outOfRange }
    return Permissions(rawValue: bits)
  }
}
