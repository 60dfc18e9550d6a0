import Addressing
import Testing

@Suite struct AddressRangeTests {
  @Test func `a range may end at the last address there is`() throws {
    let range = try #require(IOVARange(first: IOVA(UInt64.max - 4095), byteCount: 4096))
    #expect(range.last.rawValue == UInt64.max)
    #expect(range.byteCount == 4096)
    #expect(IOVARange(first: IOVA(UInt64.max - 4095), byteCount: 4097) == nil)
    #expect(IOVARange(first: IOVA(0), byteCount: 0) == nil)
  }

  @Test func `the whole space has a last offset but no byte count`() {
    #expect(IOVARange.wholeSpace.byteCount == nil)
    #expect(IOVARange.wholeSpace.lastOffset == UInt64.max)
    #expect(IOVARange.wholeSpace.pageCount(.fourKiB) == 1 << 52)
  }

  @Test func `every pair of small ranges overlaps exactly when some address is in both`() {
    let all = (0..<6).flatMap { first in
      (first..<6).map { GPARange(first: GPA(UInt64(first)), last: GPA(UInt64($0))) }
    }
    for a in all {
      for b in all {
        let both = (0..<6).filter { a.contains(GPA(UInt64($0))) && b.contains(GPA(UInt64($0))) }
        #expect(a.overlaps(b) == !both.isEmpty)
        let common = a.intersection(b)
        #expect(common.map { Int($0.first.rawValue) } == both.first)
        #expect(common.map { Int($0.last.rawValue) } == both.last)
        #expect(a.isFollowed(by: b) == (b.first.rawValue == a.last.rawValue + 1))
      }
    }
  }

  @Test(arguments: [0, 1, 4095, 4096, 4097, 8191, 8192, UInt64.max - 4096, UInt64.max])
  func `shrinking and expanding agree with counting bytes`(first: UInt64) {
    for offset in [0, 1, 4094, 4095, 4096, 8191, 12287] as [UInt64] {
      let (last, overflow) = first.addingReportingOverflow(offset)
      if overflow { continue }
      let range = IOVARange(first: IOVA(first), last: IOVA(last))
      let outer = range.expanded(to: .fourKiB)
      #expect(outer.contains(range) && outer.isAligned(to: .fourKiB))
      #expect(outer.pageCount(.fourKiB) == range.pageCount(.fourKiB))
      if let inner = range.shrunk(to: .fourKiB) {
        #expect(range.contains(inner) && inner.isAligned(to: .fourKiB))
        #expect(outer.pageCount(.fourKiB) - inner.pageCount(.fourKiB) <= 2)
      } else {
        #expect(range.lastOffset < 8191)
      }
    }
  }

  @Test func `a range that begins after its last is the caller's bug`() async {
    await #expect(processExitsWith: .failure) {
      _ = IOVARange(first: IOVA(1), last: IOVA(0))
    }
  }

  @Test func `nothing follows the end of the address space`() {
    let last = IOVARange(first: IOVA(UInt64.max - 0xfff), last: IOVA(UInt64.max))
    #expect(!last.isFollowed(by: IOVARange(first: IOVA(0), last: IOVA(0xfff))))
    #expect(!IOVARange.wholeSpace.isFollowed(by: .wholeSpace))
    let before = IOVARange(first: IOVA(0), last: IOVA(last.first.rawValue - 1))
    #expect(before.isFollowed(by: last))
  }
}
