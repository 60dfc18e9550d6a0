import Addressing
import GuestDirtyLog
import Locking
import PageBitmap
import TestSupport
import Testing

/// What is long, with a step of somebody else between two holds of a region's lock: every step, in
/// every gap there is.
@Suite struct LogInterleavingTests {
  /// What goes on over several holds.
  enum Long: CaseIterable {
    case settle, release, drop, harvest, holdRange, everything, merge
    case removeConsumer, addConsumer, questions
  }

  /// What another thread does between two of them.
  enum Step: CaseIterable {
    case mark, hold, harvest, harvestOfOther, putBack, merge
  }

  enum Fault { case none, leavesHoldOut, losesStep }

  /// Three blocks in one region and one in another; a page of each block, and its neighbours.
  static let pages: [UInt64] = [5, 32_768 + 700, 65_536 + 9, 100_000]

  /// The pages that are looked at one by one.
  static let watched: Set<UInt64> = pages.reduce(into: [0, 98_303, 99_000, 99_839, 100_999]) {
    $0.formUnion($1...($1 + 20))
    if $1 < 98_304 { $0.insert($1 / 32_768 * 32_768 + 64) }
  }

  static func watched(_ harvest: Harvest) -> [UInt64] {
    watched.filter { page in
      harvest.runs.contains { NaiveDirtyLog.pages($0).contains(page) }
    }
  }

  /// A log, and how often each page was marked or held back and each reader got it.
  final class World: Sendable {
    struct Book {
      var marked: [UInt64: Int] = [:]
      var got: [ConsumerID: [UInt64: Int]] = [:]
      /// Pages of any kind got by all readers.
      var gotCount: UInt64 = 0
      var open: Harvest?
    }

    let log: GuestDirtyLog
    let gap: Gap
    let held: HolderID
    let readers: [ConsumerID]
    let book = Mutex(Book())

    init(_ gap: Gap, _ long: Long, readerCount: Int, fault: Fault) throws {
      var limits = HoldLimits()
      limits.blockCount = 1
      limits.lineCount = 1
      // What makes all dirty would take a hold for each two pages to be read.
      limits.pageCount = long == .everything || long == .holdRange ? 20_000 : 2
      limits.runCount = 1
      limits.between = { gap.pass() }
      if fault == .leavesHoldOut { limits.omittedHold = 1 }
      self.gap = gap
      log = GuestDirtyLog(topology: FakeTopology(nodeCount: 1), limits: limits)
      try log.addRegion(RAMRegion(name: "low", gpa: LogPair.range(0, 98_303)))
      try log.addRegion(RAMRegion(name: "high", gpa: LogPair.range(99_000, 100_999)))
      held = log.makeHolder(for: ContainerID(0))
      let log = log
      readers = try (0..<readerCount).map { try log.addConsumer("\($0)", startsDirty: false) }
    }

    func note(_ pages: [UInt64]) {
      book.withLock { for page in pages { $0.marked[page, default: 0] += 1 } }
    }

    func mark(_ pages: [UInt64]) {
      note(pages)
      for page in pages { log.mark(LogPair.range(page, page), by: .vcpu) }
    }

    func hold(_ pages: [UInt64]) {
      note(pages)
      for page in pages { log.holdBack(LogPair.range(page, page), for: held) }
    }

    func harvest(_ reader: ConsumerID) -> Harvest {
      let harvest = log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
      let pages = LogInterleavingTests.watched(harvest)
      book.withLock {
        for page in pages { $0.got[reader, default: [:]][page, default: 0] += 1 }
        $0.gotCount += harvest.pageCount
      }
      return harvest
    }

    func putBack() {
      guard let harvest = book.withLock({ $0.open.take() }) else { return }
      let pages = LogInterleavingTests.watched(harvest)
      // As if it had never been got.
      book.withLock { for page in pages { $0.got[harvest.consumer]?[page]? -= 1 } }
      // It is a mark for the other readers too.
      note(pages)
      log.putBack(harvest)
    }

    func step(_ step: Step) {
      switch step {
      case .mark: mark(LogInterleavingTests.pages.map { $0 + 1 })
      case .hold: hold(LogInterleavingTests.pages.map { $0 + 2 })
      case .harvest: log.delivered(harvest(readers[0]))
      case .harvestOfOther: log.delivered(harvest(readers[readers.count - 1]))
      case .putBack: putBack()
      case .merge: merge()
      }
    }

    func merge() {
      // A bit in each block, and one between the regions.
      var words = [UInt64](repeating: 0, count: 99_840 / 64)
      for page in [64, 32_768 + 64, 65_536 + 64, 98_400, 99_839] as [UInt64] {
        words[Int(page / 64)] |= 1 << (page % 64)
        if page != 98_400 { note([page]) }
      }
      log.merge(words: words.span, bitCount: 99_840, at: GPA(0), by: .vcpu)
    }

    func long(_ long: Long) throws {
      switch long {
      case .settle: _ = log.settleHeldBack(for: held, by: .vcpu)
      case .release: _ = log.releaseHeldBack(for: held, by: .vcpu)
      case .drop: log.dropHeldBack(for: held)
      case .harvest: log.delivered(harvest(readers[0]))
      case .holdRange:
        note(Array(LogInterleavingTests.watched))
        log.holdBack(LogPair.range(0, 200_000), for: held)
      case .everything:
        note(Array(LogInterleavingTests.watched))
        log.markEverything(by: .conservative(nil))
      case .merge: merge()
      case .removeConsumer: log.removeConsumer(try log.addConsumer("guest", startsDirty: true))
      case .addConsumer: _ = try log.addConsumer("guest", startsDirty: false)
      case .questions:
        _ = log.heldBackPageCount
        _ = log.peek(for: readers[0], runCountMax: .max)
        _ = log.dirtyPageCount(for: readers[0])
      }
    }
  }

  /// Pages dirty, in flight, held and noted; then the long step with the other in its gap; then
  /// everything is brought to the readers.
  ///
  /// - Returns: whether the gap was there, and what is wrong.
  static func run(
    _ long: Long, _ step: Step, gap index: Int, readerCount: Int, fault: Fault = .none
  ) throws -> (isThere: Bool, difference: String?) {
    let gap = Gap(index)
    let world = try World(gap, long, readerCount: readerCount, fault: fault)
    let log = world.log
    world.mark(pages.map { $0 + 20 })
    world.book.withLock { [harvest = world.harvest(world.readers[0])] in $0.open = harvest }
    world.hold(pages + pages.map { $0 + 3 })
    _ = log.settleHeldBack(for: world.held, by: .vcpu)
    world.hold(pages.map { $0 + 3 } + pages.map { $0 + 4 })
    world.mark(pages + pages.map { $0 + 5 } + pages.map { $0 + 6 })
    gap.arm {
      if fault == .losesStep, step == .mark {
        world.note(pages.map { $0 + 1 })
      } else {
        world.step(step)
      }
    }
    try world.long(long)
    let isThere = gap.disarm()
    if fault == .none { log.checkInvariants() }
    if step == .hold, isThere, long == .settle {
      // Not in the log: noted for the settling after this one.
      let dirty = Set(
        log.peek(for: world.readers[0], runCountMax: .max).flatMap {
          Array(NaiveDirtyLog.pages($0))
        })
      if !dirty.isDisjoint(with: pages.map { $0 + 2 }) { return (isThere, "held, and marked") }
    }
    _ = log.releaseHeldBack(for: world.held, by: .vcpu)
    for reader in world.readers { log.delivered(world.harvest(reader)) }
    return (isThere, difference(world, long, step))
  }

  private static func difference(
    _ world: World, _ long: Long, _ step: Step
  ) -> String? {
    let book = world.book.withLock { $0 }
    for reader in world.readers {
      let got = book.got[reader] ?? [:]
      for (page, times) in book.marked {
        let count = got[page] ?? 0
        // What was held back alone may be gone, and that before its region's set was dropped.
        let isDropped =
          long == .drop
          && pages.contains { page >= $0 + (step == .hold ? 2 : 3) && page <= $0 + 4 }
        if count == 0, !isDropped { return "page \(page) is lost" }
        if count > times { return "page \(page) came \(count) times, marked \(times) times" }
      }
      if let odd = got.keys.first(where: { book.marked[$0] == nil }) { return "page \(odd)" }
    }
    guard world.readers.count == 1, long != .addConsumer, long != .removeConsumer else {
      return nil
    }
    // Each page that became dirty was got once, those put back among them.
    let newly = world.log.pagesBySource.values.reduce(0, &+)
    return newly == book.gotCount ? nil : "\(newly) newly dirty, \(book.gotCount) got"
  }

  static func firstDifference(readerCount: Int, fault: Fault = .none) throws -> String? {
    for long in Long.allCases {
      for step in Step.allCases {
        var gap = 0
        while true {
          let (isThere, difference) = try run(
            long, step, gap: gap, readerCount: readerCount, fault: fault)
          if let difference { return "\(long), \(step) in gap \(gap): \(difference)" }
          guard isThere else { break }
          gap += 1
        }
        // Every long step has gaps, or this looks at nothing.
        if gap == 0 { return "\(long) has no gap" }
      }
    }
    return nil
  }

  @Test(arguments: [1, 2])
  func `a step of another thread between two holds loses no page and counts none twice`(
    readerCount: Int
  ) throws {
    let difference = try Self.firstDifference(readerCount: readerCount)
    #expect(difference == nil)
  }

  @Test(arguments: [Fault.leavesHoldOut, .losesStep])
  func `the interleavings notice a hold that is left out and a mark that is lost`(
    fault: Fault
  ) throws {
    let difference = try Self.firstDifference(readerCount: 1, fault: fault)
    #expect(difference?.contains("lost") == true)
  }
}
