import Addressing
import GuestDirtyLog
import TestSupport
import Testing

@Suite struct LogModelTests {
  static let sources: [DirtySource] = [
    .vcpu, .deviceQuery(ContainerID(0)), .unmap(ContainerID(2)), .conservative(ContainerID(1)),
    .conservative(nil),
  ]

  @Test func `random lives of a log agree with sets of page numbers`() throws {
    let seed = TestSeed.seed(default: 31)
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<60 {
      var pair = LogPair(
        nodeCount: generator.once(in: 2) ? 1 : 3,
        limits: generator.once(in: 2) ? HoldLimits() : Self.smallHolds(&generator))
      for _ in 0..<60 {
        let step = Self.step(&generator, pair)
        guard try pair.apply(step), pair.agrees else {
          Issue.record(
            "\(step) differs; \(TestSeed.reproduce(seed, filter: "LogModelTests"))")
          return
        }
      }
    }
  }

  @Test(arguments: [
    LogFault.losesLastPageOfMark, .losesLastPageOfHeldRange, .losesPutBack, .sharesHolders,
  ])
  func `the comparison notices a log that loses pages`(_ fault: LogFault) throws {
    var generator = SeededGenerator(seed: 32)
    var isCaught = false
    for _ in 0..<20 where !isCaught {
      var pair = LogPair()
      pair.fault = fault
      for _ in 0..<60 where !isCaught {
        isCaught = try !pair.apply(Self.step(&generator, pair)) || !pair.agrees
      }
    }
    #expect(isCaught)
  }

  @Test func `the same calls give the same digest, and each that matters another one`() throws {
    var generators = (SeededGenerator(seed: 33), SeededGenerator(seed: 33))
    var pairs = (LogPair(), LogPair(nodeCount: 2))
    for _ in 0..<200 {
      _ = try pairs.0.apply(Self.step(&generators.0, pairs.0))
      _ = try pairs.1.apply(Self.step(&generators.1, pairs.1))
      #expect(pairs.0.log.stateDigest() == pairs.1.log.stateDigest())
    }
    let before = pairs.0.log.stateDigest()
    try pairs.0.log.addRegion(RAMRegion(name: "more", gpa: LogPair.range(1 << 30, 1 << 30)))
    #expect(pairs.0.log.stateDigest() != before)
  }

  /// So little under one hold that nearly everything takes several.
  static func smallHolds(_ generator: inout SeededGenerator) -> HoldLimits {
    var limits = HoldLimits()
    limits.blockCount = 1
    limits.lineCount = 1 + generator.below(2 as UInt64)
    limits.pageCount = 1 + generator.below(9 as UInt64)
    limits.runCount = 1 + generator.below(3)
    return limits
  }

  @Test func `what is done under one hold of a lock changes nothing in the end`() throws {
    let seed = TestSeed.seed(default: 34)
    let again = TestSeed.reproduce(seed, filter: "LogModelTests")
    var generators = (SeededGenerator(seed: seed), SeededGenerator(seed: seed))
    var sizes = SeededGenerator(seed: seed &+ 1)
    for _ in 0..<12 {
      var pairs = (LogPair(), LogPair(limits: Self.smallHolds(&sizes)))
      for step in 0..<100 {
        _ = try pairs.0.apply(Self.step(&generators.0, pairs.0))
        _ = try pairs.1.apply(Self.step(&generators.1, pairs.1))
        #expect(pairs.0.log.stateDigest() == pairs.1.log.stateDigest(), "step \(step), \(again)")
      }
    }
  }

  static let names = ["low", "high", "line", "far"]

  /// Regions of a few pages, side by side and apart, and one of more than a block.
  static func region(_ index: Int) -> RAMRegion {
    let pages: [ClosedRange<UInt64>] = [0...3, 4...66, 600...1200, 70_000...70_020]
    return RAMRegion(
      name: names[index], gpa: LogPair.range(pages[index].lowerBound, pages[index].upperBound),
      node: index % 3)
  }

  static func page(_ generator: inout SeededGenerator) -> UInt64 {
    switch generator.below(4) {
    case 0: generator.below(80)
    case 1: 590 + generator.below(620)
    case 2: 69_990 + generator.below(40)
    default: generator.below(6)
    }
  }

  static func mappings(_ generator: inout SeededGenerator) -> ([Mapping], [IOVARange]) {
    var mappings: [Mapping] = []
    var next: UInt64 = 100
    for _ in 0..<(1 + generator.below(12)) {
      next += generator.once(in: 3) ? generator.below(70) : 0
      let pages = generator.once(in: 3) ? 1 + generator.below(150 as UInt64) : 1
      // A quarter of them begins in the middle of pages.
      let cut: UInt64 = generator.once(in: 4) ? 2048 : 0
      let iova = IOVARange(first: IOVA(next << 12 + cut), byteCount: pages << 12 - cut)!
      mappings.append(
        Mapping(
          iova: iova, gpaFirst: GPA(page(&generator) << 12 + (generator.once(in: 6) ? 2048 : cut)),
          permissions: generator.once(in: 5) ? .read : .readWrite))
      next += pages
    }
    let dirty = (0..<generator.below(8)).map { _ in
      IOVARange(
        first: IOVA((100 + generator.below(next - 99)) << 12),
        byteCount: (1 + generator.below(100)) << 12)!
    }
    return (mappings, dirty)
  }

  static func step(_ generator: inout SeededGenerator, _ pair: LogPair) -> LogStep {
    let source = sources[generator.below(sources.count)]
    let container = ContainerID(UInt16(generator.below(2)))
    let consumer = generator.below(4)
    let place = max(0, pair.harvests.count - 1 - generator.below(4))
    switch generator.below(23) {
    case 0, 1, 2:
      let first = page(&generator)
      return .mark(first: first, last: first + generator.below(90), source)
    case 3:
      let words = (0..<(1 + generator.below(12))).map { _ in generator.next() & generator.next() }
      return .merge(first: page(&generator), bits: words, source)
    case 4, 5:
      let (mappings, dirty) = mappings(&generator)
      return .scatter(mappings, dirty: dirty, source)
    case 6, 7:
      let (mappings, dirty) = mappings(&generator)
      return .holdBack(mappings, dirty: dirty, container)
    case 8: return .settle(container)
    case 9: return generator.once(in: 2) ? .release(container) : .drop(container)
    case 10: return generator.once(in: 5) ? .everything : .settle(container)
    case 11, 12: return .addRegion(region(generator.below(4)))
    case 13: return .removeRegion(page(&generator))
    case 14: return .addConsumer(consumer, startsDirty: generator.once(in: 2))
    case 15: return generator.once(in: 2) ? .removeConsumer(consumer) : .resetAllDirty
    case 16: return .delivered(place)
    case 17: return .putBack(place)
    case 18: return generator.once(in: 2) ? .putBackAll(consumer) : .delivered(place)
    case 19:
      let first = page(&generator)
      return .holdBackRange(first: first, last: first + generator.below(90), container)
    default:
      return .harvest(
        consumer, pageCountMax: generator.below(300), runCountMax: generator.below(12))
    }
  }
}
