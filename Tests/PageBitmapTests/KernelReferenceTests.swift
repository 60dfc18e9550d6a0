import Addressing
import PageBitmap
import TestSupport
import Testing

/// The kernels' work in plain Swift, word by word.
enum Reference {
  /// `target |= bits`, from `bit` of `source` to `page` of `target`.
  static func merge(
    _ target: inout [UInt64], _ source: Span<UInt64>, bit: UInt64, count: UInt64, at page: UInt64
  ) -> ScatterCount {
    var result = ScatterCount()
    for step in 0..<count {
      let from = bit + step
      guard source[Int(from / 64)] & (1 << (from % 64)) != 0 else { continue }
      result.dirtyPages += 1
      let to = page + step
      let mask: UInt64 = 1 << (to % 64)
      if target[Int(to / 64)] & mask == 0 { result.newlyDirtyPages += 1 }
      target[Int(to / 64)] |= mask
    }
    return result
  }
}

extension KernelTests {
  @Suite(.serialized) struct KernelReferenceTests {
    static func words(of bitmap: borrowing PageBitmap, _ count: Int) -> [UInt64] {
      bitmap.withWords { words in (0..<count).map { $0 < words.count ? words[$0] : 0 } }
    }

    @Test func `a level the CPU does not have is refused`() {
      let before = KernelLevel.current
      #expect(!KernelLevel.force(KernelLevel.best + 1))
      #expect(!KernelLevel.force(-1))
      #expect(KernelLevel.current == before)
    }

    @Test func `every level merges as the Swift reference does, from the edge of memory`() throws {
      let seed = TestSeed.seed(default: 41)
      try KernelTests.atEveryLevel { level in
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<150 {
          let bits = 1 + generator.below(1700 as UInt64)
          let offset = generator.below(130 as UInt64)
          let page = generator.below(600 as UInt64)
          let source = try #require(WordsAtEdge(count: Int((offset + bits + 63) / 64)))
          let isSparse = generator.once(in: 2)
          source.fill { _ in isSparse ? generator.next() & generator.next() : generator.next() }
          var bitmap = try PageBitmap(pageCount: page + bits + generator.below(3))
          _ = bitmap.insert(first: page, last: page + bits / 3)
          var reference = Self.words(of: bitmap, 48)
          let (got, expected) = source.withSpan { words in
            (
              bitmap.mergeCounting(words: words, bitOffset: offset, bitCount: bits, at: page),
              Reference.merge(&reference, words, bit: offset, count: bits, at: page)
            )
          }
          bitmap.checkInvariants()
          #expect(
            got == expected && Self.words(of: bitmap, 48) == reference,
            "level \(level): \(TestSeed.reproduce(seed, filter: "KernelReferenceTests"))")
        }
      }
    }

    @Test func `no level writes a word outside its bitmap`() throws {
      let allocator = GuardedAllocator()
      try KernelTests.atEveryLevel { level in
        var generator = SeededGenerator(seed: 42)
        for pages in [1, 64, 511, 512, 513, 4096, 32768, 33_000] as [UInt64] {
          var one = try PageBitmap(pageCount: pages, allocator: allocator)
          var other = try PageBitmap(pageCount: pages, allocator: allocator)
          let words = (0..<Int((pages + 63) / 64 + 1)).map { _ in generator.next() }
          for offset in [0, 1, 63] as [UInt64] {
            _ = one.merge(words: words.span, bitOffset: offset, bitCount: pages, at: 0)
            _ = one.move(into: &other)
            _ = one.formUnion(other)
            one.remove(first: 0, last: pages / 2)
            one.checkInvariants()
          }
          other.removeAll()
          other.checkInvariants()
          let left = other.dirtyCount
          #expect(left == 0, "level \(level)")
        }
      }
      #expect(allocator.brokenGuardCount == 0)
    }

    @Test func `every level moves blocks as sets do and leaves the others alone`() throws {
      try KernelTests.atEveryLevel { level in
        var generator = SeededGenerator(seed: 43)
        for _ in 0..<20 {
          let pages = 40_000 + generator.below(300_000 as UInt64)
          var from = try PageBitmap(pageCount: pages)
          var into = try PageBitmap(pageCount: pages)
          var naive = (from: NaiveBitmap(), into: NaiveBitmap())
          for _ in 0..<40 {
            let first = generator.below(pages)
            let last = min(pages - 1, first + generator.below(900 as UInt64))
            if generator.once(in: 2) {
              #expect(
                from.insert(first: first, last: last)
                  == naive.from.insert(
                    first: first, last: last))
            } else {
              _ = into.insert(first: first, last: last)
              _ = naive.into.insert(first: first, last: last)
            }
          }
          let low = generator.below(from.blockCount)
          let blocks = low..<(low + 1 + generator.below(from.blockCount - low))
          let moved = naive.from.pages.filter { blocks.contains(Int($0 / 32768)) }
          let newly = UInt64(moved.subtracting(naive.into.pages).count)
          #expect(from.move(into: &into, blocks: blocks) == newly, "level \(level)")
          naive.from.pages.subtract(moved)
          naive.into.pages.formUnion(moved)
          from.checkInvariants()
          into.checkInvariants()
          #expect(from.allRuns == naive.from.runs && into.allRuns == naive.into.runs)
        }
      }
    }

    @Test func `a fetch tests before it clears: clean memory is never written`() throws {
      try KernelTests.atEveryLevel { _ in
        let allocator = FreezableAllocator()
        var bitmap = try PageBitmap(pageCount: 1 << 20, allocator: allocator)
        var into = try PageBitmap(pageCount: 1 << 20)
        // 128 KiB of bits; the dirty ones are in the first 4 KiB.
        _ = bitmap.insert(first: 5, last: 600)
        #expect(allocator.freeze(4096..<(128 << 10)))
        #expect(bitmap.move(into: &into) == 596)
        _ = bitmap.insert(first: 7, last: 7)
        var runs: [PageRun] = []
        #expect(
          bitmap.takeRuns(from: 0, pageCountMax: .max, into: &runs, runCountMax: 9) == nil)
        let left = bitmap.dirtyCount
        #expect(runs == [PageRun(first: 7, last: 7)] && left == 0)
      }
    }

    @Test func `the comparison notices a bit that is off by one`() throws {
      var bitmap = try PageBitmap(pageCount: 700)
      let words: [UInt64] = [1 << 63, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      var reference = [UInt64](repeating: 0, count: 16)
      let got = bitmap.mergeCounting(words: words.span, bitOffset: 1, bitCount: 640, at: 3)
      let expected = Reference.merge(&reference, words.span, bit: 0, count: 640, at: 3)
      #expect(got == expected)
      #expect(Self.words(of: bitmap, 16) != reference)
    }
  }
}
