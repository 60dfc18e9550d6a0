public import Addressing
public import IOVAMapping

/// The calls of one unmap with dirty bitmap: a range of any size as chunks whose bitmaps the
/// container takes, rather than a refusal with E2BIG.
///
/// Invariants:
/// 1. Every mapped byte of the range lies in exactly one chunk or one unqueryable range; a hole
///    needs no call.
/// 2. Chunks rise, do not overlap and lie inside the range.
/// 3. With ``BisectPolicy/refuse``, a chunk begins and ends where a mapping does.
public struct UnmapPlan: Hashable, Sendable {
  public let capabilities: ContainerCapabilities
  public let pageSize: PageSize
  /// Largest bitmap of one chunk: what the container takes, or less where the caller has less.
  public let bitmapByteCountMax: UInt64

  public init(
    _ capabilities: ContainerCapabilities, pageSize: PageSize,
    bitmapByteCountMax: UInt64 = Limits.queryBitmapByteCountMax
  ) {
    self.capabilities = capabilities
    self.pageSize = pageSize
    self.bitmapByteCountMax = max(8, min(bitmapByteCountMax, capabilities.unmapBitmapByteCountMax))
  }

  /// Calls `body` with every step in IOVA order. A window is unmapped with its bitmap; an
  /// unqueryable range is unmapped without one and marked dirty.
  ///
  /// Where the range cuts a mapping it cuts the chunk too: the container refuses what it must.
  public func forEach(
    _ table: borrowing MappingTable, in range: IOVARange, _ body: (QueryPlan.Step) -> Void
  ) {
    var builder = WindowBuilder(
      pageSize: pageSize, byteCountMax: bitmapByteCountMax,
      gapByteCountMax: QueryPlan.callBitmapByteCount, mayCut: capabilities.bisectPolicy == .split)
    table.forEach(in: range) { mapping in
      if let part = mapping.iova.intersection(range) { builder.add(part, body) }
    }
    builder.close(body)
  }

  /// The steps as an array.
  public func steps(_ table: borrowing MappingTable, in range: IOVARange) -> [QueryPlan.Step] {
    var steps: [QueryPlan.Step] = []
    forEach(table, in: range) { steps.append($0) }
    return steps
  }
}
