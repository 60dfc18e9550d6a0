import Addressing
import PageBitmap
import TestSupport
import Testing

extension KernelTests {
  @Suite(.serialized) struct ScatterModelTests {
    enum Fault { case none, ignoresPermissions }

    @Test func `random scatters through whole pages agree with asking every page, at every level`()
      throws
    {
      let seed = TestSeed.seed(default: 21)
      try KernelTests.atEveryLevel { (level) throws in
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<250 {
          #expect(
            try Self.run(&generator, pageSizes: [.fourKiB], unaligned: false),
            "\(TestSeed.reproduce(seed, filter: "ScatterModelTests"))")
        }
      }
    }

    @Test func `differing page sizes and mappings that cut pages agree too`() throws {
      let seed = TestSeed.seed(default: 22)
      var generator = SeededGenerator(seed: seed)
      let sizes: [PageSize] = [.fourKiB, PageSize(bytes: 8192)!, PageSize(bytes: 65536)!]
      for _ in 0..<250 {
        #expect(
          try Self.run(&generator, pageSizes: sizes, unaligned: true),
          "\(TestSeed.reproduce(seed, filter: "ScatterModelTests"))")
      }
    }

    @Test func `the comparison notices a scatter that ignores permissions`() throws {
      var generator = SeededGenerator(seed: 9)
      var caught = false
      for _ in 0..<60 where !caught {
        caught = try !Self.run(
          &generator, pageSizes: [.fourKiB], unaligned: false, fault: .ignoresPermissions)
      }
      #expect(caught)
    }

    /// Mappings in IOVA order with holes, of one page, of a few, and of many.
    static func mappings(
      _ generator: inout SeededGenerator, unit: UInt64, gpaPageCount: UInt64
    ) -> [Mapping] {
      var found: [Mapping] = []
      var next = UInt64.random(in: 0..<4, using: &generator) * unit
      let count = Int.random(in: 1..<40, using: &generator)
      for index in 0..<count {
        let kind = UInt64.random(in: 0..<8, using: &generator)
        let units: UInt64 =
          kind < 4 ? 1 : UInt64.random(in: 1..<(kind < 7 ? 20 : 1400), using: &generator)
        if UInt64.random(in: 0..<3, using: &generator) == 0 {
          next += UInt64.random(in: 1..<90, using: &generator) * unit
        }
        let gpa = UInt64.random(in: 0..<(gpaPageCount + 300), using: &generator) * unit
        let permissions: Permissions =
          UInt64.random(in: 0..<5, using: &generator) == 0 ? .read : .readWrite
        found.append(
          Mapping(
            iova: IOVARange(first: IOVA(next), byteCount: units * unit)!, gpaFirst: GPA(gpa),
            permissions: permissions, generation: Generation(UInt64(index))))
        next += units * unit
      }
      return found
    }

    static func run(
      _ generator: inout SeededGenerator, pageSizes: [PageSize], unaligned: Bool,
      fault: Fault = .none
    ) throws -> Bool {
      let querySize = pageSizes.randomElement(using: &generator)!
      let pageSize = pageSizes.randomElement(using: &generator)!
      let pageCount = UInt64.random(in: 1..<3000, using: &generator)
      let unit: UInt64 = unaligned ? 2048 : 4096
      let list = mappings(&generator, unit: unit, gpaPageCount: pageCount)
      let gpaFirst = GPA(UInt64.random(in: 0..<50, using: &generator) * pageSize.bytes)
      let used = AddressRange(first: list[0].iova.first, last: list.last!.iova.last)
      var window = used.expanded(to: querySize)
      if UInt64.random(in: 0..<3, using: &generator) == 0 {
        let middle = IOVA(used.first.rawValue + used.lastOffset / 2)
        window = AddressRange(first: window.first, last: middle.lastOfPage(querySize))
      }
      var query = try QueryBitmap(byteCountMax: 1 << 20)
      try query.reset(window: window, pageSize: querySize)
      let dense = UInt64.random(in: 0..<4, using: &generator)
      for _ in 0..<(dense == 0 ? 0 : dense == 1 ? 5 : 300) {
        let first =
          window.first.rawValue + UInt64.random(in: 0...window.lastOffset, using: &generator)
        query.insert(
          IOVARange(
            first: IOVA(first),
            byteCount: UInt64.random(in: 1..<(dense == 3 ? 900_000 : 9000), using: &generator))!)
      }
      var bitmap = try PageBitmap(pageCount: pageCount, pageSize: pageSize)
      var model = NaiveBitmap()
      // As a large one does.
      bitmap.streams = generator.once(in: 2)
      let before = UInt64.random(in: 0..<pageCount, using: &generator)
      bitmap.insert(before)
      model.pages.insert(before)
      let count = bitmap.scatter(
        query, through: list.span, gpaFirst: gpaFirst, mappingsLead: generator.once(in: 2))
      let followed =
        fault == .none
        ? list
        : list.map { Mapping(iova: $0.iova, gpaFirst: $0.gpaFirst, permissions: .readWrite) }
      model.scatter(
        query, through: followed, gpaFirst: gpaFirst, pageSize: pageSize, pageCount: pageCount,
        step: unit)
      return bitmap.allRuns == model.runs && bitmap.dirtyCount == UInt64(model.pages.count)
        && count.newlyDirtyPages == UInt64(model.pages.count - 1)
    }

    @Test func `mappings of 2 MiB, in place and strewn, agree at every level`() throws {
      try KernelTests.atEveryLevel { (level) throws in
        var generator = SeededGenerator(seed: 23)
        for _ in 0..<24 {
          let count = 2 + generator.below(150)
          let shift: UInt64 = generator.once(in: 2) ? generator.below(512) : 0
          let chunks = Array(0..<count)
          let oddEvery = 3 + generator.below(40)
          var pageNext: UInt64 = 0
          let list = (generator.once(in: 2) ? chunks : chunks.shuffled(using: &generator)).map {
            // Now and then a mapping of another size, a hole, or a page behind two IOVAs.
            let odd = generator.below(oddEvery)
            let pages: UInt64 = odd == 0 ? 1024 : odd == 1 ? 1 + generator.below(511) : 512
            if odd == 2 { pageNext += 512 }
            let place = odd == 2 ? generator.below(count) : $0
            defer { pageNext += odd == 1 ? 512 : pages }
            return Mapping(
              iova: IOVARange(first: IOVA(pageNext << 12), byteCount: pages << 12)!,
              gpaFirst: GPA(UInt64(place) << 21 + shift << 12),
              permissions: generator.once(in: 6) ? .read : .readWrite)
          }
          let lines = Int(pageNext / 512)
          var query = try QueryBitmap(byteCountMax: 1 << 20)
          try query.reset(
            window: IOVARange(first: IOVA(0), byteCount: UInt64(lines) << 21)!, pageSize: .fourKiB)
          let isClean = generator.below(4)
          for index in 0..<lines where generator.below(4) >= isClean {
            for word in index * 8..<index * 8 + 8 {
              query.merge(word: word, generator.next() & generator.next())
            }
          }
          var bitmap = try PageBitmap(pageCount: UInt64(count) * 512 - 100)
          bitmap.streams = generator.once(in: 2)
          var model = NaiveBitmap()
          _ = bitmap.insert(first: 700, last: 702)
          model.pages.formUnion(700...702)
          let found = bitmap.scatter(
            query, through: list.span, gpaFirst: GPA(0), mappingsLead: generator.once(in: 2))
          model.scatter(
            query, through: list, gpaFirst: GPA(0), pageSize: .fourKiB,
            pageCount: bitmap.pageCount, step: 4096)
          bitmap.checkInvariants()
          #expect(bitmap.allRuns == model.runs, "level \(level)")
          #expect(found.newlyDirtyPages == UInt64(model.pages.count) - 3)
          #expect(bitmap.dirtyCount == UInt64(model.pages.count))
        }
      }
    }

    @Test func `long mappings, dense and sparse by turns, agree at every level`() throws {
      try KernelTests.atEveryLevel { (level) throws in
        var generator = SeededGenerator(seed: 29)
        for round in 0..<24 as Range<UInt64> {
          let lines = 150 + generator.below(100 as UInt64)
          let mapping = Mapping(
            iova: IOVARange(first: IOVA(0), byteCount: lines << 21)!,
            gpaFirst: GPA((round % 2 == 0 ? 0 : generator.below(600 as UInt64)) << 12),
            permissions: .readWrite)
          var query = try QueryBitmap(byteCountMax: 1 << 20)
          try query.reset(window: mapping.iova, pageSize: .fourKiB)
          var isDense = generator.once(in: 2)
          for line in 0..<Int(lines) {
            if generator.once(in: 90) { isDense.toggle() }
            guard isDense != generator.once(in: 20) else { continue }
            for word in line * 8..<line * 8 + 8 where generator.once(in: 3) {
              query.merge(word: word, generator.next() & generator.next() & generator.next())
            }
          }
          var bitmap = try PageBitmap(pageCount: lines * 512 + 700)
          bitmap.streams = round % 4 < 3
          var model = NaiveBitmap()
          for _ in 0..<(round % 3) {
            let page = generator.below(lines * 512)
            bitmap.insert(page)
            model.pages.insert(page)
          }
          let before = UInt64(model.pages.count)
          let found = bitmap.scatter(query, through: [mapping].span, gpaFirst: GPA(0))
          query.forEachDirtyRun { run in
            for address in stride(from: run.first.rawValue, through: run.last.rawValue, by: 4096) {
              model.pages.insert((mapping.gpaFirst.rawValue + address) >> 12)
            }
          }
          bitmap.checkInvariants()
          #expect(bitmap.allRuns == model.runs, "level \(level), round \(round)")
          #expect(found.newlyDirtyPages == UInt64(model.pages.count) - before)
          #expect(found.dirtyPages == query.dirtyCount)
        }
      }
    }

    @Test func `every placement of two mappings and every query over four pages agrees`() throws {
      var query = try QueryBitmap(byteCountMax: 64)
      let window = AddressRange(first: IOVA(0), last: IOVA(0x3fff))
      var cases = 0
      for split in 1..<4 as Range<UInt64> {
        for gpa in 0..<16 as Range<UInt64> {
          for bits in 0..<16 as Range<UInt64> {
            try query.reset(window: window, pageSize: .fourKiB)
            query.merge(word: 0, bits)
            let list = [
              Mapping(
                iova: AddressRange(first: IOVA(0), last: IOVA(split * 4096 - 1)),
                gpaFirst: GPA(gpa % 4 * 4096), permissions: .readWrite),
              Mapping(
                iova: AddressRange(first: IOVA(split * 4096), last: IOVA(0x3fff)),
                gpaFirst: GPA(gpa / 4 * 4096), permissions: gpa % 3 == 0 ? .read : .write),
            ]
            var model = NaiveBitmap()
            model.scatter(
              query, through: list, gpaFirst: GPA(0), pageSize: .fourKiB, pageCount: 4, step: 4096)
            for mappingsLead in [false, true] {
              var bitmap = try PageBitmap(pageCount: 4)
              _ = bitmap.scatter(
                query, through: list.span, gpaFirst: GPA(0), mappingsLead: mappingsLead)
              #expect(bitmap.allRuns == model.runs)
            }
            cases += 1
          }
        }
      }
      #expect(cases == 768)
    }

    @Test func `a mapping at the end of the address space is followed to its last byte`() throws {
      var query = try QueryBitmap(byteCountMax: 64)
      let last = AddressRange(first: IOVA(UInt64.max - 0x1fff), last: IOVA(UInt64.max))
      try query.reset(window: last, pageSize: .fourKiB)
      query.markAll()
      #expect(query.dirtyCount == 2)
      var bitmap = try PageBitmap(pageCount: 2)
      let list = [
        Mapping(iova: last, gpaFirst: GPA(UInt64.max - 0x1fff), permissions: .write)
      ]
      let count = bitmap.scatter(query, through: list.span, gpaFirst: GPA(UInt64.max - 0x1fff))
      #expect(count.newlyDirtyPages == 2)
    }
  }
}
