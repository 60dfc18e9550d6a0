import Addressing
import PageBitmap
import TestSupport
import Testing

extension KernelTests {
  @Suite(.serialized) struct PageBitmapModelTests {
    @Test func `random marks, removals, merges and harvests agree with a set, at every level`()
      throws
    {
      let seed = TestSeed.seed(default: 11)
      try KernelTests.atEveryLevel { (level) throws in
        var generator = SeededGenerator(seed: seed &+ UInt64(level))
        for _ in 0..<40 {
          let agrees = try Self.run(&generator, steps: 60, fault: false)
          #expect(agrees, "\(TestSeed.reproduce(seed, filter: "PageBitmapModelTests"))")
        }
      }
    }

    @Test func `the comparison notices one page that was not marked`() throws {
      var generator = SeededGenerator(seed: 5)
      var caught = false
      for _ in 0..<20 where !caught {
        caught = try !Self.run(&generator, steps: 60, fault: true)
      }
      #expect(caught)
    }

    /// One random life of a bitmap beside its model.
    static func run(_ generator: inout SeededGenerator, steps: Int, fault: Bool) throws -> Bool {
      let pageCount = [1, 63, 64, 65, 511, 512, 513, 5000, 40_000, 300_000].randomElement(
        using: &generator)!
      let count = UInt64(pageCount)
      var bitmap = try PageBitmap(pageCount: count)
      var model = NaiveBitmap()
      for step in 0..<steps {
        let first = UInt64.random(in: 0..<count, using: &generator)
        let last = min(count - 1, first + UInt64.random(in: 0..<700, using: &generator))
        switch UInt64.random(in: 0..<6, using: &generator) {
        case 0, 1:
          let expected = model.insert(first: first, last: last)
          let skipped = fault && step > 20 && last > first
          if bitmap.insert(first: first, last: skipped ? last - 1 : last) != expected {
            return false
          }
        case 2:
          let expected = model.remove(first: first, last: last)
          if bitmap.remove(first: first, last: last) != expected { return false }
        case 3:
          if !merge(&bitmap, &model, first, last, &generator) { return false }
        case 4:
          if !harvest(&bitmap, &model, from: first, &generator) { return false }
        default:
          if bitmap.nextRun(from: first)?.first != model.pages.filter({ $0 >= first }).min() {
            return false
          }
        }
        if bitmap.dirtyCount != UInt64(model.pages.count) { return false }
      }
      return bitmap.allRuns == model.runs
    }

    private static func merge(
      _ bitmap: inout PageBitmap, _ model: inout NaiveBitmap, _ first: UInt64, _ last: UInt64,
      _ generator: inout SeededGenerator
    ) -> Bool {
      let bits = last - first + 1
      let offset = UInt64.random(in: 0..<200, using: &generator)
      let density = UInt64.random(in: 0..<4, using: &generator)
      let words = (0..<Int((offset + bits + 63) / 64)).map { _ -> UInt64 in
        let word = UInt64.random(in: 0...UInt64.max, using: &generator)
        return density == 0 ? 0 : density == 1 ? word : word & (word >> 7) & (word >> 3)
      }
      var expected: UInt64 = 0
      for bit in 0..<bits where words[Int((offset + bit) / 64)] >> ((offset + bit) % 64) & 1 == 1 {
        if model.pages.insert(first + bit).inserted { expected += 1 }
      }
      return bitmap.merge(words: words.span, bitOffset: offset, bitCount: bits, at: first)
        == expected
    }

    private static func harvest(
      _ bitmap: inout PageBitmap, _ model: inout NaiveBitmap, from first: UInt64,
      _ generator: inout SeededGenerator
    ) -> Bool {
      var runs: [PageRun] = []
      let pageCountMax = UInt64.random(in: 1..<900, using: &generator)
      let runCountMax = Int.random(in: 1..<9, using: &generator)
      let next = bitmap.takeRuns(
        from: first, pageCountMax: pageCountMax, into: &runs, runCountMax: runCountMax)
      let taken = runs.reduce(0) { $0 + ($1.last - $1.first + 1) }
      if taken > pageCountMax || runs.count > runCountMax { return false }
      for run in runs {
        for page in run.first...run.last {
          if model.pages.remove(page) == nil { return false }
        }
      }
      let left = model.pages.filter { $0 >= first }.min()
      return next == left
    }

    @Test func `moving a bitmap into another leaves it clean and loses nothing`() throws {
      var from = try PageBitmap(pageCount: 100_000)
      var into = try PageBitmap(pageCount: 100_000)
      #expect(from.insert(first: 700, last: 70_000) == 69_301)
      #expect(into.insert(first: 0, last: 799) == 800)
      let newly = from.move(into: &into)
      #expect(newly == 69_201)
      #expect(from.isEmpty && from.nextRun(from: 0) == nil)
      #expect(into.allRuns == [PageRun(first: 0, last: 70_000)])
    }

    @Test func `a bitmap past the limit is refused by name`() {
      #expect(throws: PageBitmapError.tooManyPages(1 << 41, limit: Limits.bitmapPageCountMax)) {
        _ = try PageBitmap(pageCount: 1 << 41)
      }
    }

    @Test func `runs taken a few lines at a time are the same, and each time no more is looked at`()
      throws
    {
      let seed = TestSeed.seed(default: 17)
      let again = Comment(rawValue: TestSeed.reproduce(seed, filter: "PageBitmapModelTests"))
      var random = SeededGenerator(seed: seed)
      for _ in 0..<60 {
        let pageCount: UInt64 = random.once(in: 2) ? 3000 : 200_000
        var bitmap = try PageBitmap(pageCount: pageCount)
        var dirty = Set<UInt64>()
        for _ in 0..<random.below(60) {
          let first = random.below(pageCount)
          let last = min(
            pageCount - 1, first + random.below(random.once(in: 6) ? 3000 : 4 as UInt64))
          _ = bitmap.insert(first: first, last: last)
          dirty.formUnion(first...last)
          // Leaves lines that are zero and not known to be.
          if random.once(in: 2) {
            bitmap.remove(first: first, last: last)
            dirty.subtract(first...last)
          }
        }
        let lines = 1 + random.below(5 as UInt64)
        var taken = Set<UInt64>()
        var next: UInt64? = 0
        while let page = next {
          let expected = bitmap.nextMarked(from: page)
          var runs: [PageRun] = []
          next = bitmap.takeRuns(
            from: page, pageCountMax: 1 + random.below(700 as UInt64), into: &runs,
            runCountMax: 1 + random.below(9), lineCountMax: lines)
          for run in runs { taken.formUnion(run.first...run.last) }
          let end = PageBitmap.end(ofLines: lines, from: expected ?? page)
          #expect(runs.allSatisfy { $0.first < end }, again)
          #expect(bitmap.nextDirty(from: page, before: end).map { $0 >= next ?? 0 } ?? true, again)
          bitmap.checkInvariants()
        }
        #expect(taken == dirty, again)
        let isEmpty = bitmap.isEmpty
        #expect(isEmpty, again)
      }
      #expect(PageBitmap.end(ofLines: .max, from: 5) == .max)
      #expect(PageBitmap.end(ofLines: 2, from: 1023) == 3 * 512)
    }
  }
}
