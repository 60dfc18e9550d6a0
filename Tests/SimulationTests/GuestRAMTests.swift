import Addressing
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

@Suite struct GuestRAMTests {
  let layout = GuestLayout(byteCount: 64 * 4096, nodes: [0])

  func bytes(_ value: UInt8, _ count: Int) -> [UInt8] { Array(repeating: value, count: count) }

  func byDevice(_ ram: GuestRAM, _ count: Int, _ gpa: GPA) -> [UInt8]? {
    TestBytes.filled(count) { ram.read(into: &$0, at: gpa) }
  }

  func byVCPU(_ ram: GuestRAM, _ count: Int, _ gpa: GPA) -> [UInt8]? {
    TestBytes.filled(count) { ram.readAsVCPU(into: &$0, at: gpa) }
  }

  func byMigration(_ ram: GuestRAM, _ range: GPARange) -> [UInt8]? {
    ram.withBytes(of: range) { span in (0..<span.byteCount).map { TestBytes.byte(span, $0) } }
  }

  @Test func `what is written through one mapping is seen through the others`() throws {
    let ram = try GuestRAM(layout: layout)
    var random = SeededGenerator(seed: TestSeed.seed(default: 11))
    for _ in 0..<500 {
      let region = layout.regions[random.below(2)]
      let count = 1 + random.below(5000)
      let offset = random.below(region.pageCount * 4096 - UInt64(count))
      let gpa = GPA(region.gpa.first.rawValue + offset)
      let range = try #require(GPARange(first: gpa, byteCount: UInt64(count)))
      let content = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      switch random.below(3) {
      case 0: #expect(TestBytes.with(content) { ram.write($0, at: gpa) })
      case 1: #expect(TestBytes.with(content) { ram.writeAsVCPU($0, at: gpa) })
      default:
        let done: Bool? = ram.withMutableBytes(of: range) { span in
          TestBytes.copy(content, to: &span)
          return true
        }
        #expect(done == true)
      }
      #expect(byDevice(ram, count, gpa) == content)
      #expect(byVCPU(ram, count, gpa) == content)
      #expect(byMigration(ram, range) == content)
    }
  }

  @Test func `above the hole a GPA is not an offset`() throws {
    let ram = try GuestRAM(layout: layout)
    #expect(TestBytes.with(bytes(7, 16)) { ram.write($0, at: GPA((4 << 30) + 4096)) })
    #expect(byVCPU(ram, 16, GPA(4096)) == bytes(0, 16))
    #expect(byVCPU(ram, 16, GPA((4 << 30) + 4096)) == bytes(7, 16))
    #expect(byVCPU(ram, 16, GPA(33 * 4096)) == nil)
  }

  @Test func `bytes that do not lie in one region are refused whole`() throws {
    let ram = try GuestRAM(layout: layout)
    let end = layout.regions[0].gpa.last.rawValue + 1
    for gpa in [GPA(end - 8), GPA(end), GPA(UInt64.max - 3), GPA((4 << 30) - 8)] {
      #expect(!TestBytes.with(bytes(9, 16)) { ram.write($0, at: gpa) })
      #expect(!TestBytes.with(bytes(9, 16)) { ram.writeAsVCPU($0, at: gpa) })
      #expect(byDevice(ram, 16, gpa) == nil && byVCPU(ram, 16, gpa) == nil)
    }
    let across = AddressRange(first: GPA(end - 8), last: GPA(end + 7))
    #expect(ram.withBytes(of: across) { _ in true } == nil)
    #expect(ram.withMutableBytes(of: across) { _ in true } == nil)
    #expect(ram.pageDigests().allSatisfy { $0 == 0 })
  }

  @Test func `regions say where vCPUs see them`() throws {
    let ram = try GuestRAM(layout: layout)
    #expect(ram.ramRegions.map(\.gpa) == layout.regions.map(\.gpa))
    #expect(ram.ramRegions.map(\.node) == [0, 0])
    #expect(ram.misplacedRegions.isEmpty)
    for region in ram.ramRegions {
      let hva = try #require(region.hvaFirst)
      #expect(TestBytes.with(bytes(0x5a, 1)) { ram.write($0, at: region.gpa.first) })
      #expect(TestBytes.byte(at: hva) == 0x5a)
    }
  }

  @Test func `a node the machine does not have is named and loses nothing`() throws {
    let ram = try GuestRAM(layout: GuestLayout(byteCount: 8 * 4096, nodes: [0, 1023]))
    #expect(ram.misplacedRegions == ["ram-above-4g"])
    #expect(TestBytes.with(bytes(1, 8)) { ram.write($0, at: GuestLayout.aboveHole) })
  }

  @Test func `a comparison names exactly the pages that differ`() throws {
    let seed = TestSeed.seed(default: 12)
    var random = SeededGenerator(seed: seed)
    let ours = try GuestRAM(layout: layout)
    let theirs = try GuestRAM(layout: layout)
    for page in 0..<layout.pageCount where page % 3 != 0 {
      let content = (0..<4096).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      let gpa = layout.gpa(ofPage: page)
      #expect(TestBytes.with(content) { ours.write($0, at: gpa) })
      #expect(TestBytes.with(content) { theirs.writeAsVCPU($0, at: gpa) })
    }
    #expect(ours.compare(with: theirs.pageDigests()).isEqual)
    var expected: Set<GPA> = []
    for _ in 0..<40 {
      let page = random.below(layout.pageCount)
      let gpa = GPA(layout.gpa(ofPage: page).rawValue + random.below(UInt64(4096)))
      guard let old = byVCPU(ours, 1, gpa), expected.insert(gpa.roundedDown(to: .fourKiB)).inserted
      else { continue }
      let flipped = [old[0] ^ (1 << UInt8(random.below(8)))]
      #expect(TestBytes.with(flipped) { ours.write($0, at: gpa) })
    }
    let verdict = ours.compare(with: theirs.pageDigests())
    #expect(
      verdict.different == expected.sorted(), "\(TestSeed.reproduce(seed, filter: "GuestRAM"))")
    #expect(verdict.comparedCount == 64 && !verdict.isEqual)
    let smaller = ours.compare(with: Array(ours.pageDigests().prefix(60)))
    #expect(smaller.unmatchedCount == 4 && smaller.different.isEmpty && !smaller.isEqual)
  }

  @Test func `swapped pages, and swapped words in a page, differ`() throws {
    let ram = try GuestRAM(layout: layout)
    func digest(_ words: [Int: UInt8]) throws -> UInt64 {
      var content = bytes(0, 4096)
      for (word, value) in words { content[word * 8] = value }
      #expect(TestBytes.with(content) { ram.write($0, at: GPA(0)) })
      return ram.pageDigests()[0]
    }
    let places = [0, 1, 2, 3, 4, 5, 8, 255, 510, 511]
    var seen: Set<UInt64> = [try digest([:])]
    var count = 1
    for first in places {
      seen.insert(try digest([first: 1]))
      count += 1
      for second in places where first != second {
        seen.insert(try digest([first: 2, second: 3]))
        count += 1
      }
    }
    #expect(seen.count == count)
  }

  @Test func `the ledger tells device writes from vCPU writes`() throws {
    let ledger = WriteLedger(layout: layout)
    let ram = try GuestRAM(layout: layout, ledger: ledger)
    #expect(TestBytes.with(bytes(1, 4097)) { ram.write($0, at: GPA(4096)) })
    #expect(TestBytes.with(bytes(1, 8)) { ram.write($0, at: GuestLayout.aboveHole) })
    #expect(TestBytes.with(bytes(1, 8)) { ram.writeAsVCPU($0, at: GPA(2 * 4096 + 5)) })
    #expect(!TestBytes.with(bytes(1, 8)) { ram.write($0, at: GPA(1 << 31)) })
    #expect(ledger.pageCount(writtenBy: .device) == 3 && ledger.pageCount(writtenBy: .vcpu) == 1)
    #expect(ledger.pagesOnlyDevicesWrote() == [1, 32])
    #expect(ledger.contains(page: 2, writtenBy: .device))
    ledger.reset()
    #expect(ledger.pagesOnlyDevicesWrote().isEmpty && ledger.pageCount(writtenBy: .vcpu) == 0)
  }

  @Test func `a header comes back as it was, and other bytes are none`() throws {
    let ram = try GuestRAM(layout: layout)
    let header = PageHeader(writer: 3, generation: 1 << 40, address: UInt64.max)
    let words = (0..<4).map { header.words[$0] }
    let content = words.flatMap { word in (0..<8).map { UInt8(word >> UInt64($0 * 8) & 0xff) } }
    #expect(TestBytes.with(content) { ram.write($0, at: GPA(4096)) })
    #expect(ram.header(ofPage: 1) == header)
    #expect(ram.header(ofPage: 0) == nil && ram.header(ofPage: 64) == nil)
    for count in [0, 8, 31] {
      #expect(TestBytes.with(Array(content.prefix(count))) { PageHeader(decoding: $0) == nil })
    }
  }
}
