import Addressing
import CPUDirty
import GuestDirtyLog
import Synchronization
import TestSupport
import Testing

@Suite struct MarkedWritesTests {
  private static func page(_ number: UInt64) -> GPARange {
    AddressRange(first: GPA(number * 4096 + 8), last: GPA(number * 4096 + 15))
  }

  private static let regions = [
    RAMRegion(name: "low", gpa: AddressRange(first: GPA(0), last: GPA(0xf_ffff))),
    RAMRegion(name: "high", gpa: AddressRange(first: GPA(0x20_0000), last: GPA(0x2f_ffff))),
  ]

  @Test func `what the threads mark is collected once, against a set`() throws {
    let help = try LogWithReader(Self.regions)
    let source = try MarkedWrites(regions: Self.regions)
    source.wrote(Self.page(1))
    try source.start()
    let seed = TestSeed.seed(default: 77)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<30 {
      var expected: Set<UInt64> = []
      for _ in 0..<random.below(200) {
        let first = random.below(0x310 as UInt64)
        let last = first + random.below(6 as UInt64)
        source.wrote(
          AddressRange(first: Self.page(first).first, last: Self.page(last).last))
        expected.formUnion((first...last).filter { $0 < 0x100 || (0x200..<0x300).contains($0) })
      }
      #expect(try source.collect(into: help.log) == UInt64(expected.count))
      #expect(
        help.take() == expected.sorted(),
        "\(TestSeed.reproduce(seed, filter: "MarkedWritesTests"))")
    }
    #expect(try source.collect(into: help.log) == 0)
    #expect(source.name.contains("marked by the guest threads"))
  }

  @Test func `it keeps nothing while stopped, and a start begins clean`() throws {
    let help = try LogWithReader(Self.regions)
    let source = try MarkedWrites(regions: Self.regions)
    #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
    try source.start()
    source.wrote(Self.page(3))
    source.stop()
    source.wrote(Self.page(4))
    try source.start()
    #expect(try source.collect(into: help.log) == 0)
  }

  @Test func `no mark of a running thread is lost`() throws {
    let help = try LogWithReader(Self.regions)
    let source = try MarkedWrites(regions: Self.regions)
    try source.start()
    let memory = SharedPages(pageCount: 256)
    var sent = [UInt64](repeating: 0, count: 256)
    let isOver = Atomic(false)
    try withThread {
      var random = SeededGenerator(seed: 9)
      var generation: UInt64 = 0
      while !isOver.load(ordering: .acquiring) {
        generation += 1
        let page = random.below(256)
        memory.write(generation, to: page)
        source.wrote(Self.page(UInt64(page)))
      }
    } while: {
      for _ in 0..<200 {
        _ = try source.collect(into: help.log)
        for page in help.take() { sent[Int(page)] = memory.read(Int(page)) }
      }
      isOver.store(true, ordering: .releasing)
    }
    _ = try source.collect(into: help.log)
    for page in help.take() { sent[Int(page)] = memory.read(Int(page)) }
    #expect((0..<256).allSatisfy { sent[$0] == memory.read($0) })
  }
}
