import Addressing
import IOVAMapping
import TestSupport
import Testing

/// What can be asked of a table: by IOVA, by GPA, in order, and about the past.
@Suite struct MappingTableQuestionTests {
  static func range(_ firstPage: UInt64, _ pages: UInt64) -> IOVARange {
    MappingTableModelTests.range(firstPage, pages)
  }

  @Test func `retired mappings stay answerable up to the limit and no further`() throws {
    var table = MappingTable(retiredCountMax: 2)
    let page = Self.range(5, 1)
    // Mapped at generations 1, 3, 5; unmapped at 2, 4, 6.
    for round in 0..<3 as Range<UInt64> {
      try table.map(page, to: GPA(round << 12), permissions: .readWrite)
      try table.unmap(page)
    }
    #expect(table.retiredCount == 2)
    #expect(table.forgottenThrough == Generation(2))
    #expect(table.lookup(page.first, at: Generation(5))?.gpaFirst == GPA(2 << 12))
    #expect(table.lookup(page.first, at: Generation(3))?.gpaFirst == GPA(1 << 12))
    #expect(table.lookup(page.first, at: Generation(4)) == nil)
    var found: [UInt64] = []
    let isComplete = table.retired(since: Generation(2), overlapping: page) {
      found.append($0.retired.rawValue)
    }
    #expect(isComplete && found == [4, 6])
    #expect(!table.retired(since: Generation(1), overlapping: page) { _ in })
    #expect(table.retired(since: Generation(2), overlapping: Self.range(6, 9)) { _ in })
  }

  @Test func `a table that keeps nothing retired says so`() throws {
    var table = MappingTable(retiredCountMax: 0)
    try table.map(Self.range(0, 1), to: GPA(0), permissions: .read)
    try table.unmap(Self.range(0, 1))
    #expect(table.retiredCount == 0 && table.forgottenThrough == Generation(2))
    #expect(!table.retired(since: Generation(1), overlapping: .wholeSpace) { _ in })
  }

  @Test func `adjacent mappings make one run, whatever they map to`() throws {
    var table = MappingTable()
    for (page, gpa, permissions) in [
      (0, 9, .readWrite), (1, 3, .readWrite), (2, 7, .read), (3, 1, .write), (8, 0, .readWrite),
    ] as [(UInt64, UInt64, Permissions)] {
      try table.map(Self.range(page, 1), to: GPA(gpa << 12), permissions: permissions)
    }
    var runs: [IOVARange] = []
    table.forEachRun { runs.append($0) }
    #expect(runs == [Self.range(0, 4), Self.range(8, 1)])
    runs = []
    table.forEachRun(writableOnly: true) { runs.append($0) }
    #expect(runs == [Self.range(0, 2), Self.range(3, 1), Self.range(8, 1)])
    runs = []
    table.forEachRun(in: Self.range(1, 2)) { runs.append($0) }
    #expect(runs == [Self.range(1, 2)])
  }

  /// Maps 500 times, and returns the page after the last.
  private static func fillWithRuns(
    _ table: inout MappingTable, _ random: inout SeededGenerator
  ) throws -> UInt64 {
    var next: UInt64 = 0
    let gpaEnd: UInt64 = 1 << 52
    var gpa: UInt64 = 1000
    var size: UInt64 = 1
    // From hardly any that go on to long stretches of equal ones.
    let changes = [6, 40, 300].randomElement(using: &random)!
    while table.count < 500 {
      next += random.once(in: changes) ? random.below(3 as UInt64) : 0
      if random.once(in: changes) { size = 1 + random.below(3 as UInt64) }
      if random.once(in: changes) { gpa = random.below(5000 as UInt64) }
      // The end of the address space, and what would go on there if addresses wrapped.
      if random.once(in: changes) { gpa = gpaEnd - random.below(40 as UInt64) * size }
      if gpa + size > gpaEnd { gpa = 0 }
      try table.map(
        Self.range(next, size), to: GPA(gpa << 12),
        permissions: random.once(in: changes) ? .read : .readWrite)
      next += size
      gpa += size
    }
    return next
  }

  @Test func `the walk in runs names the same pages, and joins only what goes on everywhere`()
    throws
  {
    let seed = TestSeed.seed(default: 31)
    let again = "\(TestSeed.reproduce(seed, filter: "MappingTableQuestionTests"))"
    var random = SeededGenerator(seed: seed)
    for _ in 0..<40 {
      var table = MappingTable()
      let next = try Self.fillWithRuns(&table, &random)
      let low = IOVA(random.below(next) << 12)
      let high = IOVA(low.rawValue + random.below(next) << 12)
      let limit = 1 + Int(random.below(300 as UInt64))
      var mappings: [Mapping] = []
      var runs: [Mapping] = []
      let read = table.copyMappings(from: low, through: high, into: &mappings, countMax: limit)
      #expect(
        table.copyRuns(from: low, through: high, into: &runs, countMax: limit) == read, "\(again)")
      func pages(_ list: [Mapping]) -> [[UInt64]] {
        list.flatMap { mapping in
          (0..<mapping.iova.pageCount(.fourKiB)).map { step in
            [
              mapping.iova.first.rawValue >> 12 + step, mapping.gpaFirst.rawValue >> 12 + step,
              UInt64(mapping.permissions.rawValue),
            ]
          }
        }
      }
      #expect(pages(runs) == pages(mappings), "\(again)")
      for (one, other) in zip(runs, runs.dropFirst()) {
        let goesOn =
          one.iova.isFollowed(by: other.iova) && one.gpa.isFollowed(by: other.gpa)
          && one.permissions == other.permissions
        #expect(!goesOn, "\(again)")
      }
      let range = AddressRange(first: low, last: high)
      mappings = []
      table.forEach(in: range) { mappings.append($0) }
      var extents: [MappingExtent] = []
      table.forEachExtent(in: range) { extents.append($0) }
      func writability(_ iova: IOVARange, _ isWritable: Bool) -> [[UInt64]] {
        let first = iova.first.rawValue >> 12
        return (0..<iova.pageCount(.fourKiB)).map { [first + $0, isWritable ? 1 : 0] }
      }
      let ofExtents = extents.flatMap { writability($0.iova, $0.isWritable) }
      let ofMappings = mappings.flatMap { writability($0.iova, $0.isWritable) }
      #expect(ofExtents == ofMappings, "\(again)")
      for (one, other) in zip(extents, extents.dropFirst()) {
        let isApart = !one.iova.isFollowed(by: other.iova)
        #expect(isApart || one.isWritable != other.isWritable, "\(again)")
      }
      let writable = mappings.filter(\.isWritable)
      #expect(table.writableSpan(in: range)?.first == writable.first?.iova.first, "\(again)")
      #expect(table.writableSpan(in: range)?.last == writable.last?.iova.last, "\(again)")
    }
  }

  /// Maps 300 times, and returns the page after the last.
  /// - Parameter lineByteCount: of what nearly all mappings are, side by side; nil for any kind.
  private static func fill(
    _ table: inout MappingTable, lineByteCount: UInt64?, _ random: inout SeededGenerator
  ) throws -> UInt64 {
    var next = lineByteCount == nil ? random.below(200 as UInt64) : 0
    while table.count < 300 {
      if let lineByteCount, !random.once(in: 40) {
        try table.map(
          range(next, lineByteCount >> 12), to: GPA(random.below(1 << 30) << 12),
          permissions: random.once(in: 60) ? .read : .readWrite)
        next += lineByteCount >> 12
        continue
      }
      let kind = random.below(20)
      let pages: UInt64 =
        kind == 0 ? 5000 : kind < 5 ? 512 : kind < 9 ? 1 + random.below(700 as UInt64) : 1
      if kind >= 5, random.once(in: 3) { next += random.below(70 as UInt64) }
      if pages == 512, random.once(in: 2) { next = (next + 63) & ~63 }
      try table.map(
        range(next, pages), to: GPA(random.below(1 << 30) << 12),
        permissions: random.once(in: 5) ? .read : .readWrite)
      next += pages
    }
    return next
  }

  @Test func `the walk under an answer leaves out only what is clean or may not be written`() throws
  {
    let seed = TestSeed.seed(default: 33)
    let again = "\(TestSeed.reproduce(seed, filter: "MappingTableQuestionTests"))"
    var random = SeededGenerator(seed: seed)
    for round in 0..<60 {
      var table = MappingTable()
      let pageSize: PageSize = round % 3 == 0 ? PageSize(bytes: 65536)! : .fourKiB
      let isEven = round % 4 == 1
      let next = try Self.fill(&table, lineByteCount: isEven ? pageSize.bytes << 9 : nil, &random)
      let start = isEven && random.once(in: 2) ? 0 : random.below(next / 2)
      let first = IOVA(start << 12 & ~0xffff)
      let window = IOVARange(
        first: first, byteCount: (1 + random.below(next / 16)) << 16)!
      let bitCount = Int(window.pageCount(pageSize))
      var words = [UInt64](repeating: 0, count: (bitCount + 63) / 64)
      var dirty: [UInt64] = []
      for _ in 0..<random.below(60) {
        let bit = Int(random.below(UInt64(bitCount)))
        words[bit / 64] |= 1 << UInt64(bit % 64)
        dirty.append(window.first.rawValue + UInt64(bit) << pageSize.shift)
      }
      var found: [Mapping] = []
      var from: IOVA? = window.first
      var read = 0
      let limit = 1 + Int(random.below(200 as UInt64))
      while let start = from {
        let (count, last) = table.copyDirty(
          from: start, through: window.last, into: &found, countMax: limit, under: words.span,
          window: window, pageSize: pageSize)
        read += count
        from = count == limit ? last?.advanced(byBytes: 1) : nil
      }
      var all: [Mapping] = []
      table.forEach(in: window) { all.append($0) }
      #expect(read == all.count, "\(again)")
      func touches(_ mapping: Mapping, within bytes: UInt64) -> Bool {
        dirty.contains { page in
          page <= mapping.iova.last.rawValue &+ bytes
            && page + pageSize.bytes + bytes > mapping.iova.first.rawValue
        }
      }
      // All with dirt, and none that is further from it than a word.
      let must = all.filter { $0.isWritable && touches($0, within: 0) }
      let may = all.filter {
        $0.isWritable && ($0.iova.pageCount(pageSize) > 4096 || touches($0, within: 64 * 65536))
      }
      #expect(must.allSatisfy(found.contains), "\(again)")
      #expect(found.allSatisfy(may.contains), "\(again)")
      #expect(found.map(\.iova.first) == found.map(\.iova.first).sorted(), "\(again)")
      #expect(Set(found).count == found.count, "\(again)")
    }
  }

  @Test func `one GPA behind many IOVAs is found behind each`() throws {
    var table = MappingTable()
    try table.map(Self.range(4, 2), to: GPA(0x1000), permissions: .read)
    try table.map(Self.range(100, 1), to: GPA(0x2000), permissions: .write)
    try table.map(Self.range(7, 1), to: GPA(0x3000), permissions: .write)
    let gpa = GPARange(first: GPA(0x2000), byteCount: 1)!
    #expect(table.mappings(to: gpa).map(\.iova) == [Self.range(4, 2), Self.range(100, 1)])
  }

  /// Pages where the guess of the search is as wrong as can be: thick at one end, powers of two,
  /// one far away.
  static func lopsidedPages(_ random: inout SeededGenerator) -> Set<UInt64> {
    var pages = Set<UInt64>(0..<700)
    for shift in 10..<52 as Range<UInt64> {
      for _ in 0..<20 { pages.insert((1 << shift) + random.below(40)) }
    }
    pages.insert((1 << 52) - 1)
    return pages
  }

  @Test func `lookups and walks find everything among lopsided addresses`() throws {
    let seed = TestSeed.seed(default: 91)
    let again = Comment(rawValue: TestSeed.reproduce(seed, filter: "MappingTableQuestionTests"))
    var random = SeededGenerator(seed: seed)
    var table = MappingTable()
    let pages = Self.lopsidedPages(&random)
    for page in pages.shuffled(using: &random) {
      try table.map(
        IOVARange(first: IOVA(page << 12), last: IOVA(page << 12 | 0xfff)),
        to: GPA(page << 12), permissions: .readWrite)
    }
    table.checkInvariants()
    let sorted = pages.sorted()
    for page in sorted {
      #expect(table.lookup(IOVA(page << 12 | 5))?.gpaFirst == GPA(page << 12), again)
      if page > 0, !pages.contains(page - 1) {
        #expect(table.lookup(IOVA((page - 1) << 12)) == nil, again)
      }
    }
    for _ in 0..<200 {
      let low = sorted.randomElement(using: &random)!
      let high = max(low, sorted.randomElement(using: &random)!)
      let limit = 1 + random.below(400)
      var batch: [Mapping] = []
      let copied = table.copyMappings(
        from: IOVA(low << 12), through: IOVA(high << 12), into: &batch, countMax: limit)
      let expected = sorted.filter { $0 >= low && $0 <= high }.prefix(limit)
      #expect(
        copied == batch.count && batch.map { $0.gpaFirst.rawValue >> 12 } == Array(expected), again)
    }
    for page in pages.shuffled(using: &random) {
      let one = IOVARange(first: IOVA(page << 12), last: IOVA(page << 12 | 0xfff))
      #expect(try table.unmap(one).mappingCount == 1, again)
    }
    table.checkInvariants()
    #expect(table.count == 0)
  }
}
