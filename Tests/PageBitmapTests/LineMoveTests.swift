import Addressing
import IOVAMapping
import PageBitmap
import TestSupport
import Testing

extension KernelTests {
  /// Lines moved out of an answer where the table has its mappings, and the rest scattered.
  @Suite(.serialized) struct LineMoveTests {
    enum Fault { case none, ignoresPermissions }

    @Test func `lines moved and the rest scattered agree with asking every page, at every level`()
      throws
    {
      let seed = TestSeed.seed(default: 41)
      try KernelTests.atEveryLevel { (level) throws in
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<150 {
          #expect(
            try Self.run(&generator, .fourKiB) == nil,
            "level \(level): \(TestSeed.reproduce(seed, filter: "LineMoveTests"))")
        }
        for _ in 0..<6 {
          #expect(
            try Self.run(&generator, PageSize(bytes: 65536)!) == nil,
            "level \(level): \(TestSeed.reproduce(seed, filter: "LineMoveTests"))")
        }
      }
    }

    @Test func `the comparison notices a model that ignores permissions`() throws {
      var generator = SeededGenerator(seed: 42)
      var caught = false
      for _ in 0..<20 where !caught {
        caught = try Self.run(&generator, .fourKiB, fault: .ignoresPermissions) != nil
      }
      #expect(caught)
    }

    /// Mostly lines, some side by side and some not, and all that is no line: of other sizes, off a
    /// line on either side, read only, outside of the target.
    private static func table(
      _ generator: inout SeededGenerator, _ pageSize: PageSize, lineCount: UInt64
    ) throws -> MappingTable {
      var table = MappingTable(policy: .split, pageSize: .fourKiB)
      let bytes = pageSize.bytes
      var next = generator.below(3 as UInt64) * bytes
      // From hardly any to nearly all; and with whole leaves of one kind, or hardly any.
      let oddOneIn = [3, 20, 400, 4000].randomElement(using: &generator)!
      let turnOneIn = [40, 4000].randomElement(using: &generator)!
      // Leaves that are of one kind need not be of lines.
      let evenPages: UInt64 = generator.once(in: 8) ? 256 : 512
      var permissions = Permissions.readWrite
      for _ in 0..<(1 + generator.below(bytes == 4096 ? 280 : 40)) {
        if generator.once(in: turnOneIn) { permissions = permissions == .read ? .readWrite : .read }
        let odd = generator.once(in: oddOneIn) ? generator.below(7) : 7
        let pages: UInt64 = odd == 0 ? 511 : odd == 1 ? 1 + generator.below(5) : evenPages
        // To the next line, or away from it.
        if odd == 2 { next += bytes * (1 + generator.below(70)) }
        if odd > 2, next / bytes % 64 != 0, generator.once(in: 2) {
          next = (next / bytes + 63) / 64 * 64 * bytes
        }
        var gpa = generator.below(lineCount) * 512 * bytes
        if odd == 3 { gpa += bytes * (1 + generator.below(511)) }
        if odd == 4 { gpa = (lineCount + generator.below(9)) * 512 * bytes }
        if odd == 6, bytes > 4096 { gpa += 4096 }
        let range = IOVARange(first: IOVA(next), byteCount: pages * bytes)!
        _ = try table.map(range, to: GPA(gpa), permissions: odd == 5 ? .read : permissions)
        next += pages * bytes
      }
      return table
    }

    private static func dirty(
      _ generator: inout SeededGenerator, _ window: IOVARange, _ pageSize: PageSize
    ) throws -> QueryBitmap {
      // No room past the window, and what lies there is not zero.
      var query = try QueryBitmap(
        byteCountMax: QueryBitmap.byteCount(window: window, pageSize: pageSize)!,
        allocator: GuardedAllocator())
      try query.reset(window: window, pageSize: pageSize)
      let words = query.wordCount
      let wordOneIn = [1, 8, 100].randomElement(using: &generator)!
      let inLast = window.pageCount(pageSize) % 64
      for word in 0..<words where generator.once(in: wordOneIn) {
        let bits = generator.next() & generator.next()
        // Nothing past the window's end.
        query.merge(word: word, word == words - 1 && inLast != 0 ? bits & (1 << inLast - 1) : bits)
      }
      return query
    }

    /// - Returns: what does not agree; nil when all does.
    private static func run(
      _ generator: inout SeededGenerator, _ pageSize: PageSize, fault: Fault = .none
    ) throws -> String? {
      let bytes = pageSize.bytes
      let lineCount = 1 + generator.below(200 as UInt64)
      let table = try table(&generator, pageSize, lineCount: lineCount)
      var list: [Mapping] = []
      table.copyMappings(from: IOVA(0), through: IOVA(.max), into: &list, countMax: .max)
      let used = AddressRange(first: list[0].iova.first, last: list.last!.iova.last)
      var window = used.expanded(to: pageSize)
      if generator.once(in: 2) {
        // It begins and ends inside of mappings, on words of lines or off them.
        let first = list[0].iova.first.rawValue / bytes / 64 * 64
        let skipped: UInt64 = [0, 64, 99, 128].randomElement(using: &generator)!
        let middle = IOVA(used.first.rawValue + used.lastOffset / 2)
        window = AddressRange(
          first: IOVA(min((first + skipped) * bytes, middle.roundedDown(to: pageSize).rawValue)),
          last: middle.lastOfPage(pageSize))
      }
      var query = try dirty(&generator, window, pageSize)
      let gpaFirst = GPA(generator.once(in: 2) ? 0 : generator.below(3 as UInt64) * pageSize.bytes)
      var bitmap = try PageBitmap(
        pageCount: lineCount * 512 - generator.below(200 as UInt64), pageSize: pageSize)
      bitmap.streams = generator.once(in: 2)
      var model = NaiveBitmap()
      for _ in 0..<(generator.once(in: 2) ? 0 : generator.below(60)) {
        let page = generator.below(bitmap.pageCount)
        bitmap.insert(page)
        model.pages.insert(page)
      }
      let before = UInt64(model.pages.count)
      model.scatter(
        query, through: fault == .none ? list : list.map(\.madeWritable), gpaFirst: gpaFirst,
        pageSize: pageSize, pageCount: bitmap.pageCount, step: 4096)
      let all = query.dirtyCount
      var moved = MovedLines()
      _ = table.withPacked(from: window.first, through: window.last, countMax: .max) { leaves in
        let part = bitmap.moveLines(from: &query, through: leaves, gpaFirst: gpaFirst)
        moved.count.dirtyPages += part.count.dirtyPages
        moved.count.newlyDirtyPages += part.count.newlyDirtyPages
        moved.leftCount += part.leftCount
      }
      bitmap.checkInvariants()
      guard query.dirtyCount == all - moved.count.dirtyPages else { return "cleared and moved" }
      let rest = bitmap.scatter(query, through: list.span, gpaFirst: gpaFirst)
      guard moved.leftCount > 0 || rest.dirtyPages == 0 else { return "left" }
      guard bitmap.allRuns == model.runs else { return "pages" }
      let newly = moved.count.newlyDirtyPages + rest.newlyDirtyPages
      guard newly == UInt64(model.pages.count) - before else { return "newly dirty" }
      guard bitmap.dirtyCount == UInt64(model.pages.count) else { return "count" }
      query.forget(before: IOVA(window.first.rawValue + window.lastOffset / 2))
      try query.reset(window: window, pageSize: pageSize)
      return query.isClear ? nil : "reset"
    }

    @Test func `of lines side by side all are moved, whatever was dirty before`() throws {
      try KernelTests.atEveryLevel { (level) throws in
        var table = MappingTable(policy: .split, pageSize: .fourKiB)
        // 128 a leaf, and a part of one.
        let count: UInt64 = 300
        for line in 0..<count {
          _ = try table.map(
            IOVARange(first: IOVA(line << 21), byteCount: 1 << 21)!,
            to: GPA((line * 7 % count) << 21), permissions: .readWrite)
        }
        let window = AddressRange(first: IOVA(0), last: IOVA(count << 21 - 1))
        var bitmap = try PageBitmap(pageCount: count * 512)
        var query = try QueryBitmap(byteCountMax: Int(count) * 64)
        for streams in [true, false] {
          bitmap.streams = streams
          for round in 0..<2 as Range<UInt64> {
            try query.reset(window: window, pageSize: .fourKiB)
            for line in 0..<count {
              query.insert(IOVARange(first: IOVA(line << 21 + round << 12), byteCount: 4096)!)
            }
            var newly: UInt64 = 0
            _ = table.withPacked(from: IOVA(0), through: window.last, countMax: .max) { leaves in
              let moved = bitmap.moveLines(from: &query, through: leaves, gpaFirst: GPA(0))
              #expect(moved.leftCount == 0)
              newly += moved.count.newlyDirtyPages
            }
            let isClear = query.isClear
            #expect(isClear, "level \(level)")
            bitmap.checkInvariants()
            #expect(newly == (streams ? count : 0), "level \(level)")
          }
        }
        let marked = bitmap.dirtyCount
        #expect(marked == 2 * count)
      }
    }

    @Test func `where a line does not fit nothing is moved, and everything left`() throws {
      var table = MappingTable(policy: .split, pageSize: .fourKiB)
      _ = try table.map(
        IOVARange(first: IOVA(0), byteCount: 1 << 21)!, to: GPA(0), permissions: .readWrite)
      for (pages, windowPages) in [(511, 512), (512, 511)] as [(UInt64, UInt64)] {
        var bitmap = try PageBitmap(pageCount: pages)
        var query = try QueryBitmap(byteCountMax: 64)
        let window = AddressRange(first: IOVA(0), last: IOVA(windowPages << 12 - 1))
        try query.reset(window: window, pageSize: .fourKiB)
        query.markAll()
        _ = table.withPacked(from: IOVA(0), through: window.last, countMax: .max) { leaves in
          let moved = bitmap.moveLines(from: &query, through: leaves, gpaFirst: GPA(0))
          #expect(moved.leftCount == 1 && moved.count == ScatterCount())
        }
        let (marked, dirty) = (bitmap.dirtyCount, query.dirtyCount)
        #expect(marked == 0 && dirty == windowPages)
      }
    }
  }
}

extension Mapping {
  fileprivate var madeWritable: Mapping {
    Mapping(iova: iova, gpaFirst: gpaFirst, permissions: .readWrite)
  }
}
