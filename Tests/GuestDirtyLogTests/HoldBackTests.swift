import Addressing
@testable import GuestDirtyLog
import PageBitmap
import TestSupport
import Testing

/// Ranges held back without a query, against the same by a bitmap with every bit set.
@Suite struct HoldBackTests {
  static let container = ContainerID(0)

  /// A log with the one holder of a container of it.
  struct Held {
    let log: GuestDirtyLog
    let holder: HolderID

    init(_ topology: any NUMATopology = FakeTopology(nodeCount: 1)) throws {
      log = try HoldBackTests.log(topology)
      holder = log.makeHolder(for: container)
    }
  }

  static func log(_ topology: any NUMATopology = FakeTopology(nodeCount: 1)) throws -> GuestDirtyLog
  {
    let log = GuestDirtyLog(topology: topology)
    for (index, pages) in [0...99, 100...40_000, 50_000...400_000].enumerated() {
      let gpa = LogPair.range(UInt64(pages.lowerBound), UInt64(pages.upperBound))
      try log.addRegion(RAMRegion(name: "\(index)", gpa: gpa, node: 0))
    }
    return log
  }

  /// As the bitmap of a query in which all is dirty does it.
  static func holdBackByBitmap(_ held: Held, _ range: GPARange) throws -> MarkCount {
    let iova = AddressRange(first: IOVA(range.first.rawValue), last: IOVA(range.last.rawValue))
    var query = try QueryBitmap(byteCountMax: 1 << 20)
    try query.reset(window: iova.expanded(to: .fourKiB), pageSize: .fourKiB)
    query.markAll()
    let mappings = [Mapping(iova: iova, gpaFirst: range.first, permissions: .readWrite)]
    return held.log.holdBack(query, through: mappings.span, for: held.holder)
  }

  enum Fault { case none, losesFirstPage }

  /// Takes two logs through the same life, one by ranges and one by bitmaps.
  static func differs(_ seed: UInt64, fault: Fault = .none) throws -> String? {
    var generator = SeededGenerator(seed: seed)
    let held = (try Held(), try Held())
    let logs = (held.0.log, held.1.log)
    if generator.once(in: 2) {
      _ = try logs.0.addConsumer("reader", startsDirty: false)
      _ = try logs.1.addConsumer("reader", startsDirty: false)
    }
    for step in 0..<20 {
      let first = generator.below(410_000 as UInt64)
      let last = first + generator.below(generator.once(in: 3) ? 300_000 : 200 as UInt64)
      switch generator.below(5) {
      case 0:
        _ = logs.0.settleHeldBack(for: held.0.holder, by: .vcpu)
        _ = logs.1.settleHeldBack(for: held.1.holder, by: .vcpu)
      case 1:
        let counts = (
          logs.0.releaseHeldBack(for: held.0.holder, by: .vcpu),
          logs.1.releaseHeldBack(for: held.1.holder, by: .vcpu)
        )
        if counts.0 != counts.1 { return "step \(step): \(counts)" }
      default:
        let from = fault == .losesFirstPage && last > first ? first + 1 : first
        let counts = (
          logs.0.holdBack(LogPair.range(from, last), for: held.0.holder),
          try holdBackByBitmap(held.1, LogPair.range(first, last))
        )
        if counts.0 != counts.1 { return "step \(step): \(counts)" }
      }
      logs.0.checkInvariants()
      if logs.0.stateDigest() != logs.1.stateDigest() { return "step \(step)" }
    }
    return nil
  }

  @Test func `a range is held back as a bitmap with every bit set holds it back`() throws {
    for seed in [TestSeed.seed(default: 81), 82, 83, 84, 85, 86] {
      let difference = try Self.differs(seed)
      #expect(difference == nil, "\(TestSeed.reproduce(seed, filter: "HoldBackTests"))")
    }
  }

  @Test func `the comparison notices a range that loses a page`() throws {
    #expect(try Self.differs(81, fault: .losesFirstPage) != nil)
  }

  @Test func `without memory to hold a range back it is marked`() throws {
    // Enough for the one bitmap that each region has.
    let held = (try Held(RegionTests.Scarce(left: 1)), try Held(RegionTests.Scarce(left: 1)))
    let logs = (held.0.log, held.1.log)
    let readers = (
      try logs.0.addConsumer("reader", startsDirty: false),
      try logs.1.addConsumer("reader", startsDirty: false)
    )
    let range = LogPair.range(90, 60_000)
    let counts = (
      logs.0.holdBack(range, for: held.0.holder), try Self.holdBackByBitmap(held.1, range)
    )
    #expect(counts.0 == counts.1)
    #expect(counts.0.newlyDirtyPages == 10 + 39_901 + 10_001 && counts.0.outsidePages == 9_999)
    #expect(logs.0.dirtyPageCount(for: readers.0) == counts.0.dirtyPages)
    #expect(logs.0.heldBackPageCount == 0 && logs.1.heldBackPageCount == 0)
    #expect(
      logs.0.peek(for: readers.0, runCountMax: 9) == logs.1.peek(for: readers.1, runCountMax: 9))
    #expect(logs.0.pagesBySource == [.conservative(Self.container): counts.0.dirtyPages])
  }

  @Test func `a range far wider than RAM costs what its RAM costs`() throws {
    let log = try Self.log()
    let holder = log.makeHolder(for: Self.container)
    // 2^52 bytes: by the page this would not return.
    let wide = GPARange(first: GPA(0), byteCount: 1 << 52)!
    let count = log.holdBack(wide, for: holder)
    #expect(count.dirtyPages == 40_001 + 350_001)
    #expect(count.outsidePages == 1 << 40 - count.dirtyPages)
    _ = log.settleHeldBack(for: holder, by: .vcpu)
    #expect(log.heldBackPageCount == count.dirtyPages)
  }

  @Test func `what a walk that was given up had left to settle is not lost with it`() throws {
    let log = try Self.log()
    let reader = try log.addConsumer("reader", startsDirty: false)
    let holder = log.makeHolder(for: Self.container)
    // In the first block of bits of a region and in a later one.
    log.holdBack(LogPair.range(50_000, 50_000), for: holder)
    log.holdBack(LogPair.range(399_000, 399_000), for: holder)
    _ = log.settleHeldBack(for: holder, by: .vcpu)
    log.holdBack(LogPair.range(50_001, 50_001), for: holder)
    var walk = HeldBackWalk(releasesAll: false)
    for _ in 0..<2 {
      _ = log.goOn(&walk, blockCountMax: 1, for: holder, by: .vcpu, at: .ofItsOwn)
    }
    #expect(log.peek(for: reader, runCountMax: 9) == [LogPair.range(50_000, 50_000)])
    // Nor by a copy.
    let copied = log.copy(holders: [holder]).blocks.flatMap(\.held).flatMap(\.current)
    #expect(copied.contains(LogPair.range(399_000, 399_000)))
    _ = log.releaseHeldBack(for: holder, by: .vcpu)
    let dirty = [LogPair.range(50_000, 50_001), LogPair.range(399_000, 399_000)]
    #expect(log.peek(for: reader, runCountMax: 9) == dirty)
  }

  @Test func `holders of the same container number keep their pages apart`() throws {
    let log = try Self.log()
    let reader = try log.addConsumer("reader", startsDirty: false)
    // Two trackers, each of which counts its containers from 0.
    let holders = (log.makeHolder(for: Self.container), log.makeHolder(for: Self.container))
    #expect(holders.0 != holders.1 && holders.0 < holders.1)
    log.holdBack(LogPair.range(1, 2), for: holders.0)
    log.holdBack(LogPair.range(2, 3), for: holders.1)
    _ = log.settleHeldBack(for: holders.0, by: .vcpu)
    _ = log.settleHeldBack(for: holders.1, by: .vcpu)
    #expect(log.heldBackPageCount == 3 && log.dirtyPageCount(for: reader) == 0)
    // Each of two, and together the page that both hold once.
    #expect(log.heldBackPageCount(for: [holders.0]) == 2)
    #expect(log.heldBackPageCount(for: [holders.1]) == 2)
    #expect(log.heldBackPageCount(for: [holders.0, holders.1]) == 3)
    #expect(log.heldBackPageCount(for: []) == 0)
    log.dropHeldBack(for: holders.0)
    #expect(log.heldBackPageCount == 2)
    let released = log.releaseHeldBack(for: holders.1, by: .vcpu)
    #expect(released.newlyDirtyPages == 2)
    #expect(log.peek(for: reader, runCountMax: 2) == [LogPair.range(2, 3)])
  }
}
