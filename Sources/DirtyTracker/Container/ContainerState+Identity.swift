import Addressing
import DMAContainer
import GuestDirtyLog
import IOVAMapping
import Locking

/// Containers that no vIOMMU translates for: RAM is mapped 1:1.
extension ContainerState {
  /// What has to be mapped for populated RAM to be 1:1 there, in whole pages of the container.
  mutating func planRAM(in range: GPARange) -> [MapRequest] {
    let pieceMax = pieceByteCountMax()
    var requests: [MapRequest] = []
    // A page of the container is mapped whole or not at all.
    for part in settings.memory.populated(in: range.expanded(to: pageSize)) {
      guard let whole = part.gpa.shrunk(to: pageSize) else {
        notes.append("\(name): \(part.region) has no whole page of \(pageSize); not mapped")
        continue
      }
      if whole != part.gpa {
        notes.append(
          "\(name): of GPA \(part.gpa) only \(whole), the whole pages of \(pageSize), is mapped")
      }
      var rest: GPARange? = whole
      while let next = rest {
        let gpa = next.piece(byteCountMax: pieceMax)
        requests.append(request(gpa, of: part.region))
        rest =
          gpa.last < next.last
          ? AddressRange(first: GPA(gpa.last.rawValue &+ 1), last: next.last) : nil
      }
    }
    return requests
  }

  private func request(_ gpa: GPARange, of region: RAMRegion) -> MapRequest {
    let offset = gpa.first.rawValue &- region.gpa.first.rawValue
    return MapRequest(
      iova: AddressRange(first: IOVA(gpa.first.rawValue), last: IOVA(gpa.last.rawValue)),
      gpaFirst: gpa.first, hvaFirst: region.hvaFirst?.advanced(byBytes: offset),
      permissions: region.isReadOnly ? .read : .readWrite)
  }

  /// Largest mapping whose bitmap every log, and the atomic unmap, still answers. Where a backend
  /// cannot cut a mapping, all of a piece is unmapped for one page of it that the guest gives back,
  /// so there the policy has its word too.
  private func pieceByteCountMax() -> UInt64 {
    var bytes = Limits.mappingByteCountMax
    if context.bisectPolicy == .refuse {
      bytes = min(bytes, settings.policy.identityMappingByteCountMax)
    }
    for log in context.backend.dirtyLogs where !log.capabilities.mayCutMapping {
      let pageSize = log.capabilities.pageSizes.smallest ?? .fourKiB
      bytes = min(bytes, Self.byteCount(bitmap: log.capabilities.queryBitmapByteCountMax, pageSize))
    }
    if capabilities.hasAtomicUnmap {
      bytes = min(bytes, Self.byteCount(bitmap: capabilities.unmapBitmapByteCountMax, pageSize))
    }
    return max(bytes & ~pageSize.offsetMask, pageSize.bytes)
  }

  /// What so much bitmap covers, in whole words of 64 pages.
  private static func byteCount(bitmap: UInt64, _ pageSize: PageSize) -> UInt64 {
    let (pages, overflow) = (max(bitmap, 8) / 8).multipliedReportingOverflow(by: 64)
    let (bytes, tooMany) = pages.multipliedReportingOverflow(by: pageSize.bytes)
    return overflow || tooMany ? Limits.mappingByteCountMax : bytes
  }

  /// RAM has gone from the guest. Mappings to it stay until the guest unmaps them; other memory
  /// that comes to the same GPA is not what they map.
  mutating func noteGone(_ gpa: GPARange) {
    let generation = context.book.withLock { (book: inout ContainerBook) in book.table.generation }
    staleRAM.removeAll { gpa.contains($0.gpa) }
    staleRAM.append(StaleRAM(gpa: gpa, generation: generation))
    guard staleRAM.count > Limits.ramRegionCountMax else { return }
    // One that holds them all: some mapping is made again in vain.
    let (first, last) = staleRAM.reduce((gpa.first, gpa.last)) {
      (min($0.0, $1.gpa.first), max($0.1, $1.gpa.last))
    }
    staleRAM = [StaleRAM(gpa: AddressRange(first: first, last: last), generation: generation)]
  }
}

extension AddressRange {
  /// The first bytes of the range, at most so many.
  fileprivate func piece(byteCountMax: UInt64) -> AddressRange {
    guard lastOffset >= byteCountMax,
      let last = first.advanced(byBytes: byteCountMax &- 1)
    else { return self }
    return AddressRange(first: first, last: last)
  }
}
