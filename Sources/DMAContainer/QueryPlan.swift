public import Addressing
public import IOVAMapping

/// The windows of one sync: what to ask a dirty log, in as few calls as its rules allow.
///
/// Only mappings that a device may write count. What can not be asked for is handed back by name,
/// and the caller marks it dirty.
///
/// A window goes on over what lies between two writable mappings (a hole, read-only mappings) as
/// long as the bitmap of that gap costs less than one more call, see ``gapBitmapByteCountMax``.
/// Gaps do not depend on each other, so the sum of calls and bitmap bytes is the smallest there is,
/// until a window reaches the largest bitmap.
///
/// Invariants:
/// 1. Every writable mapped byte of the range lies in exactly one window or one unqueryable range.
/// 2. Windows rise, do not overlap, consist of whole pages, and their bitmap is not too large.
/// 3. No window begins or ends inside a mapping, unless the log allows it.
/// 4. No window holds an unmapped address, unless the log allows it.
/// 5. With a device log, each window lies inside one logged range and consists of whole granules
///    counted from that range's beginning: it may be wider than what is asked for. All of its
///    answer is to be scattered.
public struct QueryPlan: Hashable, Sendable {
  /// Why a range can not be asked for.
  public enum Reason: String, Hashable, Sendable, CustomStringConvertible {
    /// One mapping needs a bitmap larger than the largest and may not be cut.
    case tooLarge = "its bitmap is larger than the largest the log answers"
    /// It does not consist of whole pages of the query and may not be cut.
    case unaligned = "it does not consist of whole pages of the query"
    /// A device log was started without it.
    case notLogged = "the device does not log it"

    public var description: String { rawValue }
  }

  public enum Step: Hashable, Sendable {
    case window(IOVARange)
    /// To be marked dirty whole.
    case unqueryable(IOVARange, Reason)
  }

  /// What one call costs, as bytes of bitmap that could be cleared, filled and read meanwhile: a
  /// system call, a lock and an IOTLB flush, about as much as the bits of 1 GiB of 4 KiB pages.
  public static let callBitmapByteCount: UInt64 = 32 << 10
  /// The same for each mapping the backend steps over to find the window: type1 begins at the
  /// container's first mapping in every call.
  public static let mappingBitmapByteCount: UInt64 = 64

  public let capabilities: DirtyLogCapabilities
  public let pageSize: PageSize
  /// Largest bitmap of one window: what the log allows, or less where the caller has less memory.
  public let bitmapByteCountMax: UInt64

  public init(
    _ capabilities: DirtyLogCapabilities, pageSize: PageSize,
    bitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax
  ) {
    self.capabilities = capabilities
    self.pageSize = pageSize
    self.bitmapByteCountMax = max(8, min(bitmapByteCountMax, capabilities.queryBitmapByteCountMax))
  }

  /// What windows of a device log are multiples of.
  var granule: PageSize { capabilities.granule.size(startedWith: pageSize) }

  /// The smallest range of whole granules of a logged range around a part of it.
  func widened(_ part: IOVARange, in logged: IOVARange) -> IOVARange {
    let origin = logged.first.rawValue
    let first = (part.first.rawValue &- origin) & ~granule.offsetMask
    let last = (part.last.rawValue &- origin) | granule.offsetMask
    return AddressRange(
      first: IOVA(origin &+ first), last: IOVA(origin &+ min(last, logged.lastOffset)))
  }

  /// Bytes of bitmap a gap may cost before a second call is cheaper, in a table of that size.
  public func gapBitmapByteCountMax(mappingCount: Int) -> UInt64 {
    // A device log knows nothing of mappings; iommufd finds a mapping by a tree.
    let stepsOverMappings = capabilities.mayCrossHoles && !capabilities.mayCutMapping
    let steps = stepsOverMappings ? UInt64(mappingCount) : 0
    return Self.callBitmapByteCount &+ steps &* Self.mappingBitmapByteCount
  }

  /// Calls `body` with every step of a sync of `range`, in IOVA order. Allocates nothing.
  ///
  /// - Parameters:
  ///   - range: a mapping it cuts is asked for whole where the log may not be asked for a part.
  ///   - logged: what a device log was started with: sorted, not overlapping, of whole pages.
  ///     Empty for a log that follows the mappings.
  public func forEach(
    _ table: borrowing MappingTable, in range: IOVARange = .wholeSpace, logged: [IOVARange] = [],
    _ body: (Step) -> Void
  ) {
    var builder = WindowBuilder(
      pageSize: pageSize, byteCountMax: bitmapByteCountMax,
      gapByteCountMax: gapBitmapByteCountMax(mappingCount: table.count),
      mayCut: capabilities.mayCutMapping, granule: granule)
    let followsMappings = capabilities.rangeCountMax == nil
    let mayCut = capabilities.mayCutMapping
    let mayCrossHoles = capabilities.mayCrossHoles
    // What may be cut is cut at whole pages of the query.
    let range = mayCut ? range.expanded(to: pageSize) : range
    // Whole pages of the table are whole pages of the query: no mapping is odd.
    let isAligned = table.pageSize.bytes >= pageSize.bytes
    if followsMappings, isAligned, mayCrossHoles, !mayCut {
      // Where the whole is cheaper than a gap, every gap is: no need to look for them.
      guard let whole = table.writableSpan(in: range) else { return }
      if builder.isCheap(whole) { return body(.window(whole)) }
    }
    var mappedThrough: IOVARange?
    var position = 0
    table.forEachExtent(in: range) { extent in
      if !mayCrossHoles {
        if let before = mappedThrough, !before.isFollowed(by: extent.iova) { builder.close(body) }
        mappedThrough = extent.iova
      }
      guard extent.isWritable else { return }
      if followsMappings, isAligned,
        let part = mayCut ? extent.iova.intersection(range) : extent.iova,
        builder.addWhole(part, body)
      {
        return
      }
      table.forEach(in: extent.iova.intersection(range) ?? extent.iova) { mapping in
        let part = mayCut ? mapping.iova.intersection(range) : mapping.iova
        guard let part else { return }
        if followsMappings {
          builder.add(part, body)
        } else {
          add(part, logged, &position, to: &builder, body)
        }
      }
    }
    builder.close(body)
  }

  /// The steps as an array.
  public func steps(
    _ table: borrowing MappingTable, in range: IOVARange = .wholeSpace, logged: [IOVARange] = []
  ) -> [Step] {
    var steps: [Step] = []
    forEach(table, in: range, logged: logged) { steps.append($0) }
    return steps
  }

  /// Adds the logged pieces of `part` and names the others.
  /// - Parameter position: the first logged range that does not lie wholly before `part`.
  private func add(
    _ part: IOVARange, _ logged: [IOVARange], _ position: inout Int,
    to builder: inout WindowBuilder, _ body: (Step) -> Void
  ) {
    var rest = part
    while true {
      while position < logged.count, logged[position].last < rest.first {
        position &+= 1
        builder.close(body)
      }
      guard position < logged.count, logged[position].first <= rest.last else {
        builder.close(body)
        return body(.unqueryable(rest, .notLogged))
      }
      let range = logged[position]
      if rest.first < range.first {
        builder.close(body)
        let before = AddressRange(first: rest.first, last: IOVA(range.first.rawValue &- 1))
        body(.unqueryable(before, .notLogged))
      }
      let piece = AddressRange(
        first: max(rest.first, range.first), last: min(rest.last, range.last))
      builder.add(widened(piece.expanded(to: pageSize), in: range), body)
      guard piece.last < rest.last else { return }
      rest = AddressRange(first: IOVA(piece.last.rawValue &+ 1), last: rest.last)
    }
  }
}
