import Addressing
import GuestDirtyLog
import IOVAMapping
import PageBitmap
import Testing

/// Lines of an answer that are moved into the log where a table has their mappings.
@Suite struct LineMoveTests {
  private static let lineBytes: UInt64 = 512 << 12
  private static let container = ContainerID(7)

  /// Four lines in IOVA, the third of which lies behind nothing the log knows.
  private static func table() throws -> MappingTable {
    var table = MappingTable(policy: .split, pageSize: .fourKiB)
    for (line, target) in [0: 2, 1: 0, 2: 40, 3: 3] as [UInt64: UInt64] {
      _ = try table.map(
        IOVARange(first: IOVA(line * lineBytes), byteCount: lineBytes)!,
        to: GPA(target * lineBytes), permissions: .readWrite)
    }
    return table
  }

  /// The first two pages of each line are dirty.
  private static func answer() throws -> QueryBitmap {
    var query = try QueryBitmap(byteCountMax: 4 * 64)
    try query.reset(
      window: AddressRange(first: IOVA(0), last: IOVA(4 * lineBytes - 1)), pageSize: .fourKiB)
    for line in 0..<4 { query.merge(word: line * 8, 3) }
    return query
  }

  /// Two regions of two lines.
  private static func log(_ topology: (any NUMATopology)? = nil) throws -> GuestDirtyLog {
    let log = topology.map { GuestDirtyLog(topology: $0) } ?? GuestDirtyLog()
    for region in 0..<2 as Range<UInt64> {
      let gpa = GPARange(first: GPA(region * 2 * lineBytes), byteCount: 2 * lineBytes)!
      try log.addRegion(RAMRegion(name: "ram\(region)", gpa: gpa, node: 0))
    }
    return log
  }

  @Test func `each line goes to its region, and what lies outside is left`() throws {
    let log = try Self.log()
    let consumer = try log.addConsumer("reader", startsDirty: false)
    let table = try Self.table()
    var query = try Self.answer()
    _ = table.withPacked(from: IOVA(0), through: IOVA(UInt64.max), countMax: 9) { leaves in
      let (count, left) = log.moveLines(
        &query, through: leaves, by: .deviceQuery(Self.container), at: .none)
      #expect(count.dirtyPages == 6 && count.newlyDirtyPages == 6 && left == 1)
    }
    let rest = query.dirtyCount
    #expect(rest == 2)
    #expect(log.dirtyPageCount(for: consumer) == 6)
    #expect(log.pagesBySource[.deviceQuery(Self.container)] == 6)
    log.checkInvariants()
  }

  @Test func `with no consumer, or other pages, everything is left`() throws {
    let table = try Self.table()
    for hasConsumer in [false, true] {
      let log = try Self.log()
      if hasConsumer { _ = try log.addConsumer("reader", startsDirty: false) }
      var query = try Self.answer()
      if hasConsumer {
        try query.reset(
          window: AddressRange(first: IOVA(0), last: IOVA(4 * Self.lineBytes - 1)),
          pageSize: PageSize(bytes: 65536)!)
        query.markAll()
      }
      let before = query.dirtyCount
      _ = table.withPacked(from: IOVA(0), through: IOVA(UInt64.max), countMax: 9) { leaves in
        let (count, left) = log.moveLines(
          &query, through: leaves, by: .deviceQuery(Self.container), at: .none)
        #expect(count.dirtyPages == 0 && left == 4)
      }
      let after = query.dirtyCount
      #expect(before == after)
    }
  }

  @Test func `without memory to hold lines back they stay in the answer`() throws {
    // Enough for the one bitmap that each region has.
    let log = try Self.log(RegionTests.Scarce(left: 1))
    let holder = log.makeHolder(for: Self.container)
    _ = try log.addConsumer("reader", startsDirty: false)
    let table = try Self.table()
    var query = try Self.answer()
    _ = table.withPacked(from: IOVA(0), through: IOVA(UInt64.max), countMax: 9) { leaves in
      let (count, left) = log.moveLinesToHeldBack(&query, through: leaves, for: holder)
      #expect(count.dirtyPages == 0 && left == 4)
    }
    let rest = query.dirtyCount
    #expect(rest == 8 && log.heldBackPageCount == 0)
  }
}
