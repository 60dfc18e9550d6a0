import Addressing
import DMAContainer
@testable import DirtyTracker
import PageBitmap
import Simulation
import TestSupport
import Testing

/// What is owed, against a set of pages; and what a log is remembered to refuse.
@Suite struct OwedMarksTests {
  @Test func `ranges that are owed and paid agree with sets of pages`() {
    let seed = TestSeed.seed(default: 411)
    var random = SeededGenerator(seed: seed)
    let again = TestSeed.reproduce(seed, filter: "OwedMarksTests")
    for _ in 0..<200 {
      var owed = OwedMarks()
      var model: Set<UInt64> = []
      for _ in 0..<30 {
        let page = random.below(60 as UInt64)
        let count = 1 + random.below(6 as UInt64)
        switch random.below(3) {
        case 0, 1:
          owed.add(World.iova(page, count))
          model.formUnion(page..<page + count)
        default:
          guard let first = owed.ranges.first else { continue }
          let next = first.first.rawValue >> 12 + random.below(8 as UInt64)
          let isAll = random.once(in: 4)
          owed.paid(before: isAll ? nil : IOVA(next << 12))
          let paid = isAll ? first.last.rawValue >> 12 + 1 : next
          model = model.filter { $0 >= paid || $0 > first.last.rawValue >> 12 }
        }
        var found: Set<UInt64> = []
        for range in owed.ranges {
          found.formUnion((range.first.rawValue >> 12)...(range.last.rawValue >> 12))
        }
        #expect(found == model, "\(again)")
        #expect(
          zip(owed.ranges, owed.ranges.dropFirst()).allSatisfy { one, next in
            one.last < next.first && !one.isFollowed(by: next)
          }, "\(again)")
        for page in 0..<66 as Range<UInt64> {
          #expect(owed.overlaps(World.iova(page)) == model.contains(page), "\(again)")
          let last = IOVA(page << 12)
          // A range that ends where an owed one begins, by a byte.
          #expect(
            owed.overlaps(AddressRange(first: last, last: last)) == model.contains(page), "\(again)"
          )
        }
      }
    }
  }

  @Test func `past their limit ranges are joined, from the first to the last`() {
    var owed = OwedMarks()
    for page in 0...UInt64(OwedMarks.countMax) { owed.add(World.iova(page * 2)) }
    #expect(owed.ranges == [World.iova(0, UInt64(OwedMarks.countMax) * 2 + 1)])
  }

  @Test func `a log is remembered to refuse so many ranges, and no more`() {
    let deviceLog = SimulatedDeviceLog(name: "device log")
    var tracked = TrackedLog(deviceLog, preferred: .fourKiB)
    tracked.ranges = (0..<100 as Range<UInt64>).map { World.iova($0 * 2) }
    for page in 0..<100 as Range<UInt64> {
      for _ in 0..<2 {
        tracked.needsRestart = false
        _ = tracked.noteFailure(World.iova(page * 2))
      }
    }
    #expect(tracked.refused.count == TrackedLog.refusedCountMax)
    #expect(tracked.ranges.count == 100 - TrackedLog.refusedCountMax)
  }
}
