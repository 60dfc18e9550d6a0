import Addressing
import GuestDirtyLog
import PageBitmap
import Testing

@Suite struct RegionTests {
  static func region(_ name: String, _ first: UInt64, _ last: UInt64, node: Int? = nil)
    -> RAMRegion
  {
    RAMRegion(name: name, gpa: LogPair.range(first, last), node: node)
  }

  @Test func `RAM that can not be is refused by name and changes nothing`() throws {
    let log = GuestDirtyLog()
    let ram = Self.region("ram", 16, 31)
    try log.addRegion(ram)
    #expect(throws: GuestDirtyLogError.zeroSize("none", at: GPA(4096))) {
      _ = try RAMRegion(name: "none", gpaFirst: GPA(4096), byteCount: 0)
    }
    let past = GuestDirtyLogError.pastAddressSpace(
      "past", at: GPA(UInt64.max - 4095), byteCount: 8192)
    #expect(throws: past) {
      _ = try RAMRegion(name: "past", gpaFirst: GPA(UInt64.max - 4095), byteCount: 8192)
    }
    let cut = RAMRegion(name: "cut", gpa: AddressRange(first: GPA(0), last: GPA(5000)))
    #expect(throws: GuestDirtyLogError.unaligned(cut, pageSize: .fourKiB)) {
      try log.addRegion(cut)
    }
    let over = Self.region("over", 31, 40)
    #expect(throws: GuestDirtyLogError.overlap(new: over, existing: ram)) {
      try log.addRegion(over)
    }
    #expect(throws: GuestDirtyLogError.nameTaken("ram")) {
      try log.addRegion(Self.region("ram", 100, 100))
    }
    let huge = Self.region("huge", 1 << 20, 1 << 20 + 1 << 40)
    #expect(throws: GuestDirtyLogError.pastLimit(huge, pageCountMax: 1 << 40)) {
      try log.addRegion(huge)
    }
    #expect(throws: GuestDirtyLogError.noRegion(at: GPA(0))) {
      _ = try log.removeRegion(at: GPA(0))
    }
    #expect(log.regions == [ram])
  }

  @Test func `more regions and consumers than the limits are refused by name`() throws {
    let log = GuestDirtyLog()
    for index in 0..<UInt64(Limits.ramRegionCountMax) {
      try log.addRegion(Self.region("\(index)", index * 2, index * 2))
    }
    #expect(throws: GuestDirtyLogError.tooManyRegions(limit: Limits.ramRegionCountMax)) {
      try log.addRegion(Self.region("more", 1, 1))
    }
    let small = GuestDirtyLog()
    for index in 0..<Limits.consumerCountMax {
      _ = try small.addConsumer("\(index)", startsDirty: false)
    }
    #expect(throws: GuestDirtyLogError.tooManyConsumers(limit: Limits.consumerCountMax)) {
      _ = try small.addConsumer("more", startsDirty: false)
    }
  }

  /// Gives memory so many times, then none.
  final class Scarce: NUMATopology {
    let nodeCount = 2
    let left: Int
    let onNode1: Int
    init(left: Int, onNode1: Int? = nil) {
      self.left = left
      self.onNode1 = onNode1 ?? left
    }
    func allocator(onNode node: Int) -> any BitmapAllocator {
      LimitedAllocator(left: node == 1 ? onNode1 : left)
    }
  }

  @Test func `without memory for its bitmaps a region or a consumer is refused whole`() throws {
    let ram = Self.region("ram", 0, 99, node: 1)
    let none = GuestDirtyLog(topology: Scarce(left: 0))
    #expect(throws: GuestDirtyLogError.self) { try none.addRegion(ram) }
    #expect(none.regions.isEmpty)
    let log = GuestDirtyLog(topology: Scarce(left: 1))
    try log.addRegion(ram)
    let first = try log.addConsumer("first", startsDirty: true)
    #expect(throws: GuestDirtyLogError.self) {
      _ = try log.addConsumer("second", startsDirty: true)
    }
    log.checkInvariants()
    #expect(log.dirtyPageCount(for: first) == 100)
  }

  @Test func `a consumer that the second region has no memory for leaves nothing in the first`()
    throws
  {
    let log = GuestDirtyLog(topology: Scarce(left: 3, onNode1: 1))
    try log.addRegion(Self.region("low", 0, 99, node: 0))
    try log.addRegion(Self.region("high", 100, 199, node: 1))
    let first = try log.addConsumer("first", startsDirty: true)
    #expect(throws: GuestDirtyLogError.self) {
      _ = try log.addConsumer("second", startsDirty: false)
    }
    log.checkInvariants()
    log.mark(GPARange(first: GPA(0), last: GPA(4095)), by: .vcpu)
    #expect(log.dirtyPageCount(for: first) == 200)
  }

  @Test func `pages in flight of RAM that was removed make everything dirty when put back`() throws
  {
    let log = GuestDirtyLog()
    try log.addRegion(Self.region("ram", 0, 9))
    try log.addRegion(Self.region("slot", 100, 109))
    let consumer = try log.addConsumer("migration", startsDirty: true)
    let harvest = log.harvest(for: consumer, pageCountMax: .max, runCountMax: .max)
    #expect(harvest.pageCount == 20 && harvest.isLast && harvest.runs.count == 2)
    _ = try log.removeRegion(at: GPA(100 << 12))
    try log.addRegion(Self.region("slot", 100, 109))
    log.putBack(harvest)
    let reason = try #require(log.allDirtyReason)
    #expect(reason.contains("RAM slot"))
    #expect(log.dirtyPageCount(for: consumer) == 20)
    let late = try log.addConsumer("late", startsDirty: false)
    #expect(log.dirtyPageCount(for: late) == 20)
    log.resetAllDirty()
    let after = try log.addConsumer("after", startsDirty: false)
    #expect(log.dirtyPageCount(for: after) == 0)
  }

  @Test func `a harvest nobody answers for is put back when too many are in flight`() throws {
    let log = GuestDirtyLog()
    try log.addRegion(Self.region("ram", 0, UInt64(GuestDirtyLog.flightCountMax)))
    let consumer = try log.addConsumer("forgetful", startsDirty: true)
    for _ in 0..<GuestDirtyLog.flightCountMax {
      _ = log.harvest(for: consumer, pageCountMax: 1, runCountMax: 1)
    }
    #expect(log.dirtyPageCount(for: consumer) == 1)
    _ = log.harvest(for: consumer, pageCountMax: 1, runCountMax: 1)
    #expect(log.peek(for: consumer, runCountMax: 2) == [LogPair.range(0, 0)])
    #expect(log.inFlightPageCount(for: consumer) == UInt64(GuestDirtyLog.flightCountMax))
  }
}
