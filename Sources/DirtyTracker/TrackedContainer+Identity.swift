import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import Locking

extension TrackedContainer {
  /// Maps populated RAM 1:1, in whole pages of the container: what of it lies in `range`.
  /// - Throws: when a part can not be mapped; the parts before it stay, for the caller to remove.
  func mapRAM(_ op: inout ContainerOperation, in range: GPARange) throws(TrackerError) {
    let pieceMax = pieceByteCountMax(op)
    for part in settings.memory.populated(in: range) {
      guard let whole = part.gpa.shrunk(to: pageSize) else {
        op.notes.append("\(name): \(part.region) has no whole page of \(pageSize); not mapped")
        continue
      }
      if whole != part.gpa {
        op.notes.append(
          "\(name): of GPA \(part.gpa) only \(whole), the whole pages of \(pageSize), is mapped")
      }
      var rest: GPARange? = whole
      while let next = rest {
        let piece = GPARange(first: next.first, byteCount: pieceMax).map {
          AddressRange(first: next.first, last: min($0.last, next.last))
        }
        let gpa = piece ?? next
        try map(&op, request(gpa, of: part.region))
        rest =
          gpa.last < next.last
          ? AddressRange(first: GPA(gpa.last.rawValue &+ 1), last: next.last) : nil
      }
    }
  }

  private func request(_ gpa: GPARange, of region: RAMRegion) -> MapRequest {
    let offset = gpa.first.rawValue &- region.gpa.first.rawValue
    return MapRequest(
      iova: AddressRange(first: IOVA(gpa.first.rawValue), last: IOVA(gpa.last.rawValue)),
      gpaFirst: gpa.first, hvaFirst: region.hvaFirst?.advanced(byBytes: offset),
      permissions: region.isReadOnly ? .read : .readWrite)
  }

  /// Largest mapping whose bitmap every log, and the atomic unmap, still answers.
  private func pieceByteCountMax(_ op: borrowing ContainerOperation) -> UInt64 {
    var bytes = Limits.mappingByteCountMax
    for log in backend.dirtyLogs where !log.capabilities.mayCutMapping {
      let pageSize = log.capabilities.pageSizes.smallest ?? .fourKiB
      bytes = min(bytes, Self.byteCount(bitmap: log.capabilities.queryBitmapByteCountMax, pageSize))
    }
    if op.capabilities.hasAtomicUnmap {
      bytes = min(bytes, Self.byteCount(bitmap: op.capabilities.unmapBitmapByteCountMax, pageSize))
    }
    return max(bytes & ~pageSize.offsetMask, pageSize.bytes)
  }

  /// What so much bitmap covers, in whole words of 64 pages.
  private static func byteCount(bitmap: UInt64, _ pageSize: PageSize) -> UInt64 {
    let (pages, overflow) = (max(bitmap, 8) / 8).multipliedReportingOverflow(by: 64)
    let (bytes, tooMany) = pages.multipliedReportingOverflow(by: pageSize.bytes)
    return overflow || tooMany ? Limits.mappingByteCountMax : bytes
  }

  /// Everything goes, with its dirt; then RAM is mapped, or the guest's maps are awaited.
  func switchAddressSpace(
    _ op: inout ContainerOperation, to space: ContainerAddressSpace
  ) throws(TrackerError) {
    guard op.addressSpace != space else { return }
    try unmap(&op, .wholeSpace)
    op.addressSpace = space
    publish(op)
    if space == .identity { try mapRAM(&op, in: .wholeSpace) }
  }

  /// Why this container stands in the way of a migration.
  func blockers() -> [String] {
    var found: [String] = []
    for log in backend.dirtyLogs where log.capabilities.scope != .everythingMapped {
      let sizes = log.capabilities.pageSizes
      let pageSize =
        sizes.contains(settings.policy.pageSize)
        ? settings.policy.pageSize : sizes.smallest ?? settings.policy.pageSize
      // A device log asks by range and cuts where it likes.
      guard !log.capabilities.mayCutMapping else { continue }
      let plan = QueryPlan(log.capabilities, pageSize: pageSize)
      book.withLock { (book: inout ContainerBook) in
        plan.forEach(book.table) { step in
          guard found.count < TrackerNotes.countMax, case .unqueryable(let part, let reason) = step
          else { return }
          found.append(
            "container \(name): the dirty pages of IOVA \(part) can not be asked for: \(reason)")
        }
      }
    }
    return found
  }
}
