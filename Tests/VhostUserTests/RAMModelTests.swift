import Addressing
import TestSupport
import Testing

@testable import VhostUser

/// RAM as a list of pages: which page of which file each GPA page shows. A table is right if it
/// answers as this does.
struct NaiveRAM {
  struct Page: Hashable {
    let file: FileIdentity
    let filePage: UInt64
    let start: UInt64
  }

  var pages: [UInt64: Page] = [:]
  var regions: [RAMRegionDescription: FileIdentity] = [:]

  mutating func add(_ region: RAMRegionDescription, _ file: FileIdentity) -> Bool {
    let first = region.gpa >> 12
    let count = region.byteCount >> 12
    guard (first..<(first + count)).allSatisfy({ pages[$0] == nil }) else { return false }
    for index in 0..<count {
      pages[first + index] = Page(
        file: file, filePage: (region.fileOffset >> 12) + index,
        start: region.userAddress &- region.fileOffset)
    }
    regions[region] = file
    return true
  }

  mutating func remove(_ region: RAMRegionDescription) -> Bool {
    guard regions.removeValue(forKey: region) != nil else { return false }
    for page in (region.gpa >> 12)..<((region.gpa + region.byteCount) >> 12) {
      pages[page] = nil
    }
    return true
  }

  /// First pages of where `count` pages of a file from page `offset` on lie, asked page by page.
  func places(_ file: FileIdentity, _ offset: UInt64, _ count: UInt64, block: Bool) -> Set<UInt64> {
    var found: Set<UInt64> = []
    for (gpaPage, page) in pages where page.file == file {
      var wanted = offset
      if block {
        wanted +=
          pages.values.filter { $0.file == file && $0.start == page.start }
          .map(\.filePage).min() ?? 0
      }
      guard page.filePage == wanted else { continue }
      let fits = (0..<count).allSatisfy {
        pages[gpaPage + $0]?.file == file && pages[gpaPage + $0]?.filePage == wanted + $0
      }
      if fits { found.insert(gpaPage) }
    }
    return found
  }
}

@Suite struct RAMModelTests {
  /// A step of plugging, unplugging or replacing, then questions.
  private func run(seed: UInt64, breaking: Bool = false) throws -> Int {
    var random = SeededGenerator(seed: seed)
    var (table, model) = (RAMTable(), NaiveRAM())
    var differences = 0
    let files = (0..<3).map { FileIdentity(device: 1, inode: UInt64($0)) }
    for _ in 0..<400 {
      let known = model.regions.keys.sorted { $0.gpa < $1.gpa }
      if random.once(in: 3), let region = known.randomElement(using: &random) {
        var wrong = region
        let isWrong = random.once(in: 4)
        if isWrong { wrong.byteCount += 4096 }
        #expect(model.remove(wrong) == !isWrong)
        let removed = (try? table.remove(wrong)) != nil
        #expect(removed == !isWrong)
      } else {
        let fileOffset = random.below(UInt64(24)) << 12
        let region = RAMRegionDescription(
          gpa: random.below(UInt64(64)) << 12, byteCount: (1 + random.below(UInt64(8))) << 12,
          userAddress: fileOffset + random.below(UInt64(3)) << 32, fileOffset: fileOffset)
        let file = files[random.below(files.count)]
        let entry = try RAMTableRegion(region, file: file, descriptor: nil)
        let inserted = (try? table.insert(entry)) != nil
        #expect(model.add(region, file) == inserted)
      }
      for _ in 0..<8 {
        let (file, offset) = (files[random.below(3)], random.below(UInt64(32)))
        let count = 1 + random.below(UInt64(6))
        let origin = [FileOffsetOrigin.file, .block, .unknown][random.below(3)]
        var wanted: Set<UInt64> = []
        if origin != .block { wanted.formUnion(model.places(file, offset, count, block: false)) }
        if origin != .file { wanted.formUnion(model.places(file, offset, count, block: true)) }
        let place = table.place(
          of: file, offset: breaking ? (offset + 1) << 12 : offset << 12,
          byteCount: count << 12, countedFrom: origin)
        if place != Self.place(wanted, count) { differences += 1 }
      }
    }
    return differences
  }

  private static func place(_ pages: Set<UInt64>, _ count: UInt64) -> RAMPlace {
    RAMPlace(
      pages.sorted().map {
        GPARange(first: GPA($0 << 12), last: GPA(($0 + count) << 12 - 1))
      })
  }

  @Test func `random plugging agrees with a list of pages`() throws {
    let base = TestSeed.seed(default: 0x7261)
    for seed in base..<(base + 20) {
      #expect(
        try run(seed: seed) == 0, "\(TestSeed.reproduce(seed, filter: "RAMModelTests"))")
    }
  }

  @Test func `the list of pages notices an offset that is a page off`() throws {
    #expect(try run(seed: 1, breaking: true) > 100)
  }
}
