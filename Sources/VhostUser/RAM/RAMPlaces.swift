public import Addressing

/// Everything of the guest's RAM that a piece of a file may be.
public struct RAMPlaces: Hashable, Sendable {
  /// In the order of GPA; touching ones are not joined.
  public var ranges: [GPARange]
  /// Every byte of the piece is RAM, in one way at least of counting its offset.
  public var isWhole: Bool

  public init(ranges: [GPARange], isWhole: Bool) {
    self.ranges = ranges
    self.isWhole = isWhole
  }
}

extension RAMTable {
  /// What is added to an offset counted from a RAM block's first byte, to count from that of its
  /// file; nil where blocks of the file differ in it. 0 for a file that is not in the table.
  public func blockOffset(in file: FileIdentity) -> UInt64? {
    var offset: UInt64?
    for region in regions where region.file == file {
      let own = blockOffset(of: region)
      guard offset ?? own == own else { return nil }
      offset = own
    }
    return offset ?? 0
  }

  /// What of the guest's RAM bytes `first` to `last` of a file are, both inclusive, wherever their
  /// offset is counted from (``FileOffsetOrigin``), in as many ranges as they lie in.
  public func places(of file: FileIdentity, first: UInt64, last: UInt64) -> RAMPlaces {
    precondition(first <= last, "a piece has a byte")
    var found: [GPARange] = []
    let fromFile = add(to: &found, file, first, last) { _ in 0 }
    let fromBlock = add(to: &found, file, first, last) { blockOffset(of: $0) }
    return RAMPlaces(
      ranges: found.sorted { $0.first < $1.first }, isWhole: fromFile || fromBlock)
  }

  /// - Returns: whether all bytes were found, counted so.
  private func add(
    to found: inout [GPARange], _ file: FileIdentity, _ first: UInt64, _ last: UInt64,
    _ origin: (RAMTableRegion) -> UInt64
  ) -> Bool {
    var parts: [ClosedRange<UInt64>] = []
    for region in regions where region.file == file {
      let shift = origin(region)
      // Of the file, counted as the piece is.
      guard region.lastFileOffset >= shift else { continue }
      let low = max(first, region.fileOffset > shift ? region.fileOffset - shift : 0)
      let high = min(last, region.lastFileOffset - shift)
      guard low <= high else { continue }
      let gpaFirst = GPA(region.gpa.first.rawValue &+ (low &+ shift &- region.fileOffset))
      let range = GPARange(first: gpaFirst, last: GPA(gpaFirst.rawValue &+ (high - low)))
      if !found.contains(range) { found.append(range) }
      parts.append(low...high)
    }
    var next = first
    for part in parts.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      guard part.lowerBound <= next else { return false }
      if part.upperBound >= last { return true }
      next = max(next, part.upperBound + 1)
    }
    return false
  }
}
