import Addressing
import TestSupport
import Testing
import VFIOUser

/// A server's table and its log against the plainest models of them.
@Suite struct RandomServerTests {
  typealias Answers = ServerAnswerTests

  /// What the server answers to random maps and unmaps, beside a list of ranges.
  /// - Parameter forgetsUnmaps: of the list; a planted fault.
  static func tableDisagreement(seed: UInt64, forgetsUnmaps: Bool = false) throws -> String? {
    var random = SeededGenerator(seed: seed)
    let raw = try RawClient()
    defer { raw.close() }
    var list: [IOVARange] = []
    func expected(_ range: IOVARange) -> Int32? {
      list.contains { $0.overlaps(range) && $0 != range } ? 17 : nil
    }
    for step in 0..<2500 {
      // Upwards at first, so that leaves fill, then anywhere.
      let page = step < 1300 ? UInt64(step) * 3 : random.below(6000 as UInt64)
      var range = Answers.page(page, 1 + random.below(3 as UInt64))
      if step < 1300 || random.once(in: 2) {
        let answer = raw.ask(Answers.map(range))?.errno
        if answer != expected(range) { return "step \(step): map \(range) is \(answer as Any)" }
        if answer == nil, !list.contains(range) { list.append(range) }
      } else {
        if random.once(in: 2), let known = list.randomElement(using: &random) { range = known }
        let answer = raw.ask(Answers.unmap(range))?.errno
        let place = list.firstIndex(of: range)
        if answer != (place == nil ? 2 : nil) {
          return "step \(step): unmap \(range) is \(answer as Any)"
        }
        if let place, !forgetsUnmaps { list.remove(at: place) }
      }
    }
    let sorted = list.sorted { $0.first < $1.first }
    return raw.device.regions.map(\.iova) == sorted ? nil : "the tables differ at the end"
  }

  @Test func `a server's table agrees with a list`() throws {
    let seed = TestSeed.seed(default: 11)
    #expect(
      try Self.tableDisagreement(seed: seed) == nil,
      "\(TestSeed.reproduce(seed, filter: "RandomServerTests"))")
  }

  @Test func `the comparison notices a list that forgets an unmap`() throws {
    #expect(try Self.tableDisagreement(seed: 11, forgetsUnmaps: true) != nil)
  }

  /// Random reports, of ranges that need not end with a page, in pages of 2 to 32 KiB, beside a set
  /// of pages.
  /// - Parameter keeps: the set keeps what was reported; a planted fault.
  static func logDisagreement(seed: UInt64, keeps: Bool = false) throws -> String? {
    var random = SeededGenerator(seed: seed)
    let raw = try RawClient()
    defer { raw.close() }
    let ram = TestRAM()
    let mapped = Answers.page(16, 200)
    guard raw.ask(Answers.map(mapped), [ram.descriptor])?.errno == nil,
      raw.ask(Answers.start())?.errno == nil
    else { return "it did not start" }
    var dirty: Set<UInt64> = []
    for step in 0..<400 {
      for _ in 0..<random.below(12) {
        let page = 16 + random.below(200 as UInt64)
        guard raw.device.write([1], at: IOVA(page << 12)) != nil else { return "no write" }
        dirty.insert(page)
      }
      let size: UInt64 = 2048 << random.below(5 as UInt64)
      let first = random.below(240 as UInt64) << 12
      let range = AddressRange(
        first: IOVA(first), last: IOVA(first + 1024 * (1 + random.below(600 as UInt64)) - 1))
      var bits: Set<Int> = []
      for page in dirty {
        guard let part = Answers.page(page).intersection(range) else { continue }
        let offsets = (part.first.rawValue - first)...(part.last.rawValue - first)
        for bit in (offsets.lowerBound / size)...(offsets.upperBound / size) {
          bits.insert(Int(bit))
        }
        if !keeps { dirty.remove(page) }
      }
      let answer = Answers.bits(raw.ask(Answers.report(range, pageSize: size)))
      if answer.map({ Set($0) }) != bits {
        return "step \(step): \(range) in \(size) is \(answer as Any) and not \(bits.sorted())"
      }
    }
    return nil
  }

  @Test func `reports of any range and page size agree with a set of pages`() throws {
    let seed = TestSeed.seed(default: 12)
    #expect(
      try Self.logDisagreement(seed: seed) == nil,
      "\(TestSeed.reproduce(seed, filter: "RandomServerTests"))")
  }

  @Test func `the comparison notices a set that keeps what was reported`() throws {
    #expect(try Self.logDisagreement(seed: 12, keeps: true) != nil)
  }
}
