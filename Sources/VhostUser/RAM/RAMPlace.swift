public import Addressing

/// Where a piece of a file lies in the guest's RAM.
public enum RAMPlace: Hashable, Sendable {
  case one(GPARange)
  /// Several GPAs show it, or it could be meant in several ways. What is written there must be
  /// credited to all of them.
  case several([GPARange])
  /// Not in RAM, or not all of it side by side. What is written there counts as all of RAM.
  case none

  init(_ found: [GPARange]) {
    switch found.count {
    case 0: self = .none
    case 1: self = .one(found[0])
    default: self = .several(found)
    }
  }
}

/// What an offset is counted from.
public enum FileOffsetOrigin: Hashable, Sendable {
  /// Byte 0 of the file.
  case file
  /// The first byte of a RAM block: QEMU's vfio-user leaves the block's own offset in its file out
  /// (11.1).
  case block
  /// Either. Where they differ the answer is `several`.
  case unknown
}

extension RAMTable {
  /// Where `byteCount` bytes of a file lie in GPA.
  ///
  /// Example: one memfd of 3 GiB, its first 2 GiB at GPA 0, the rest at 4 GiB. Offset 0x8000_1000
  /// lies at GPA 0x1_0000_1000; a piece of two pages from offset 0x7fff_f000 on nowhere, since its
  /// pages are not side by side.
  public func place(
    of file: FileIdentity, offset: UInt64, byteCount: UInt64,
    countedFrom origin: FileOffsetOrigin = .unknown
  ) -> RAMPlace {
    guard byteCount > 0 else { return .none }
    var found: [GPARange] = []
    func add(_ range: GPARange?) {
      if let range, !found.contains(range) { found.append(range) }
    }
    for index in regions.indices where regions[index].file == file {
      if origin != .block {
        add(range(from: index, fileOffset: offset, byteCount: byteCount))
      }
      if origin != .file {
        let (sum, overflow) = offset.addingReportingOverflow(blockOffset(of: regions[index]))
        if !overflow { add(range(from: index, fileOffset: sum, byteCount: byteCount)) }
      }
    }
    return RAMPlace(found.sorted { $0.first < $1.first })
  }

  /// Where the RAM block of a region begins in its file: the block's first byte is RAM of the
  /// guest in every machine, so it is the least offset of its regions.
  func blockOffset(of region: RAMTableRegion) -> UInt64 {
    var least = region.fileOffset
    for other in regions where other.file == region.file && other.fileStart == region.fileStart {
      least = min(least, other.fileOffset)
    }
    return least
  }

  /// The GPA of a piece of the file that begins in the region at `index` and may run on into the
  /// regions after it, as long as GPA and file both run on.
  private func range(from index: Int, fileOffset: UInt64, byteCount: UInt64) -> GPARange? {
    let region = regions[index]
    guard region.fileOffset <= fileOffset, fileOffset <= region.lastFileOffset else { return nil }
    guard
      let first = region.gpa.first.advanced(byBytes: fileOffset &- region.fileOffset),
      let range = GPARange(first: first, byteCount: byteCount)
    else { return nil }
    var last = index
    while regions[last].gpa.last < range.last {
      guard last + 1 < regions.count, continues(after: last) else { return nil }
      last += 1
    }
    return range
  }

  private func continues(after index: Int) -> Bool {
    let (region, next) = (regions[index], regions[index + 1])
    return region.gpa.isFollowed(by: next.gpa) && region.file == next.file
      && region.lastFileOffset != .max && next.fileOffset == region.lastFileOffset &+ 1
  }
}
