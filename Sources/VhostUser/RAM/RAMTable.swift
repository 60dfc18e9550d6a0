public import Addressing

/// One region of guest memory in the front-end's table.
public struct RAMTableRegion: Sendable {
  public let gpa: GPARange
  /// Where the front-end itself sees it; only compared, never read.
  public let userAddress: HVA
  public let file: FileIdentity
  /// Where `gpa.first` lies in the file, in bytes.
  public let fileOffset: UInt64
  /// Open as long as this value, or a copy of it, lives; nil in tables that were made without.
  public let descriptor: OwnedDescriptor?

  /// Checks a description on its own: not empty, and neither GPA nor file offset past 2^64-1.
  init(
    _ description: RAMRegionDescription, file: FileIdentity, descriptor: OwnedDescriptor?
  ) throws(VhostUserError) {
    let first = GPA(description.gpa)
    guard description.byteCount > 0 else { throw .emptyRegion(gpa: first) }
    guard let gpa = GPARange(first: first, byteCount: description.byteCount) else {
      throw .regionPastAddressSpace(gpa: first, byteCount: description.byteCount)
    }
    let (_, overflow) = description.fileOffset.addingReportingOverflow(gpa.lastOffset)
    guard !overflow else {
      throw .filePastEnd(gpa: first, fileOffset: description.fileOffset)
    }
    self.gpa = gpa
    self.userAddress = HVA(description.userAddress)
    self.file = file
    self.fileOffset = description.fileOffset
    self.descriptor = descriptor
  }

  var lastFileOffset: UInt64 { fileOffset &+ gpa.lastOffset }

  /// What is the same for all regions of one mapping of a file in the front-end: where byte 0 of
  /// the file would lie. Regions of one RAM block share it, and two blocks in one file do not.
  var fileStart: UInt64 { userAddress.rawValue &- fileOffset }
}

/// The guest's RAM as the front-end says it: which GPA lies where in which file.
///
/// Terms: a **RAM block** is what QEMU allocates at once, one mapping of one file; the guest may
/// see it in several regions (below and above 4 GiB). Its bytes may begin at an offset in the file
/// (`memory-backend-file,offset=`).
///
/// Invariants:
/// 1. Regions are in the order of their GPA and do not overlap.
/// 2. A change applies wholly or not at all.
/// 3. `place` answers `one` only if no other GPA could be meant.
public struct RAMTable: Sendable {
  public private(set) var regions: [RAMTableRegion] = []

  public init() {}

  /// All regions at once: SET_MEM_TABLE.
  init(_ regions: [RAMTableRegion]) throws(VhostUserError) {
    for region in regions { try insert(region) }
  }

  /// Bytes from GPA 0 to the end of the last region; 0 without regions, nil for 2^64.
  public var end: UInt64? {
    guard let last = regions.last?.gpa.last.rawValue else { return 0 }
    return last == .max ? nil : last &+ 1
  }

  mutating func insert(_ region: RAMTableRegion) throws(VhostUserError) {
    let index = firstIndex(endingAtOrAfter: region.gpa.first)
    if index < regions.count, regions[index].gpa.overlaps(region.gpa) {
      throw .regionOverlap(region.gpa, with: regions[index].gpa)
    }
    guard regions.count < CompanionLimits.memorySlotCountMax else {
      throw .tooManyRegions(
        count: regions.count + 1, max: CompanionLimits.memorySlotCountMax)
    }
    regions.insert(region, at: index)
  }

  /// Removes the region with the GPA, size and user address of `description`. What it says of the
  /// file is not compared: front-ends leave it out.
  mutating func remove(_ description: RAMRegionDescription) throws(VhostUserError) {
    let first = GPA(description.gpa)
    let index = firstIndex(endingAtOrAfter: first)
    guard index < regions.count, regions[index].gpa.first == first,
      regions[index].gpa.byteCount == description.byteCount,
      regions[index].userAddress.rawValue == description.userAddress
    else { throw .unknownRegion(gpa: first, byteCount: description.byteCount) }
    regions.remove(at: index)
  }

  public func region(at address: GPA) -> RAMTableRegion? {
    let index = firstIndex(endingAtOrAfter: address)
    guard index < regions.count, regions[index].gpa.contains(address) else { return nil }
    return regions[index]
  }

  private func firstIndex(endingAtOrAfter address: GPA) -> Int {
    var (low, high) = (0, regions.count)
    while low < high {
      let middle = (low + high) / 2
      if regions[middle].gpa.last < address { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
