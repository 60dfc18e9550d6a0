import Addressing
import PageBitmap
import TestSupport
import Testing

extension KernelTests {
  /// Mappings of one page each, searched where few are dirty and walked where many are.
  @Suite(.serialized) struct StrewnScatterTests {
    @Test func `strewn pages, close and far and dirty by turns, agree at every level`() throws {
      let seed = TestSeed.seed(default: 31)
      try KernelTests.atEveryLevel { (level) throws in
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<16 {
          #expect(
            try Self.run(&generator),
            "level \(level): \(TestSeed.reproduce(seed, filter: "StrewnScatterTests"))")
        }
      }
    }

    /// Zones of their own distances and dirt, with odd mappings among them: of two pages, read
    /// only, and behind the end of the target.
    private static func mappings(
      _ generator: inout SeededGenerator, pageCount: UInt64, dirty: inout [UInt64]
    ) -> [Mapping] {
      var list: [Mapping] = []
      var page = generator.below(100 as UInt64)
      var distance: UInt64 = 1
      var dirtyOneIn = 1
      let oddOneIn = [60, 900, 100_000].randomElement(using: &generator)!
      for index in 0..<(64 + generator.below(6000)) {
        if index % 400 == 0 {
          distance = [1, 2, 60, 5000].randomElement(using: &generator)!
          dirtyOneIn = [1, 4, 40, 100, 1000].randomElement(using: &generator)!
        }
        let odd = generator.once(in: oddOneIn) ? generator.below(3) : 3
        let pages: UInt64 = odd == 0 ? 2 : 1
        if generator.once(in: dirtyOneIn) { dirty.append(page) }
        list.append(
          Mapping(
            iova: IOVARange(first: IOVA(page << 12), byteCount: pages << 12)!,
            gpaFirst: GPA((odd == 1 ? pageCount : generator.below(pageCount)) << 12),
            permissions: odd == 2 ? .read : .readWrite))
        page += pages + generator.below(distance)
      }
      return list
    }

    private static func run(_ generator: inout SeededGenerator) throws -> Bool {
      let pageCount: UInt64 = 20_000
      var dirty: [UInt64] = []
      let list = mappings(&generator, pageCount: pageCount, dirty: &dirty)
      let end = list.last!.iova.last.rawValue + 1
      // Some mappings lie past the window, or before it.
      let first = generator.once(in: 4) ? UInt64.random(in: 0..<64, using: &generator) << 12 : 0
      let last = generator.once(in: 4) ? end / 2 / 4096 * 4096 + 4095 : end - 1
      let window = AddressRange(first: IOVA(first), last: IOVA(max(last, first + 4095)))
      var query = try QueryBitmap(byteCountMax: 8 << 20)
      try query.reset(window: window, pageSize: .fourKiB)
      for page in dirty { query.insert(IOVARange(first: IOVA(page << 12), byteCount: 4096)!) }
      // A backend that reports what is not mapped does no harm.
      for _ in 0..<generator.below(30) {
        query.insert(IOVARange(first: IOVA(generator.below(end)), byteCount: 1)!)
      }
      var bitmap = try PageBitmap(pageCount: pageCount)
      bitmap.streams = generator.once(in: 2)
      var model = NaiveBitmap()
      var reached: UInt64 = 0
      for mapping in list where mapping.isWritable {
        let (first, last) = (mapping.iova.first.rawValue, mapping.iova.last.rawValue)
        for iova in stride(from: first, to: last, by: 4096) where query.contains(IOVA(iova)) {
          let page = mapping.translate(IOVA(iova))!.rawValue >> 12
          guard page < pageCount else { continue }
          model.pages.insert(page)
          reached += 1
        }
      }
      let found = bitmap.scatter(
        query, through: list.span, gpaFirst: GPA(0), mappingsLead: generator.once(in: 3))
      bitmap.checkInvariants()
      return bitmap.allRuns == model.runs && found.dirtyPages == reached
        && found.newlyDirtyPages == UInt64(model.pages.count)
    }
  }
}
