import Addressing
import CPUDirty
import Foundation
import GuestDirtyLog
import Synchronization
import TestSupport
import Testing

enum Kernel {
  /// Why this kernel can not run the tests below, nil when it can.
  static let lacks: String? = {
    switch PagemapScan.availability() {
    case .available: nil
    case .unavailable(let error): error.description
    }
  }()
  static let skipped: Comment = "needs PAGEMAP_SCAN of Linux 6.7: \(lacks ?? "present")"
}

@Suite(.enabled(if: Kernel.lacks == nil, Kernel.skipped))
struct PagemapScanTests {
  @Test func `a page written through the watched mapping is reported exactly once`() throws {
    let memory = SharedPages(pageCount: 64)
    let help = try LogWithReader([memory.region()])
    let source = PagemapScanSource(regions: [memory.region()])
    memory.write(1, to: 7)
    try source.start()
    #expect(try source.collect(into: help.log) == 0, "what was written before the start")
    for page in [0, 3, 4, 5, 63] { memory.write(2, to: page) }
    memory.write(3, to: 4)
    #expect(try source.collect(into: help.log) == 5)
    #expect(help.take() == [0, 3, 4, 5, 63])
    #expect(try source.collect(into: help.log) == 0)
    memory.write(4, to: 4)
    #expect(try source.collect(into: help.log) == 1)
    #expect(help.take() == [4])
    #expect(help.log.pagesBySource[.vcpu] == 6)
    source.stop()
  }

  @Test func `what is written through a second mapping is not seen`() throws {
    let memory = SharedPages(pageCount: 64)
    let help = try LogWithReader([memory.region()])
    let source = PagemapScanSource(regions: [memory.region()])
    for page in 0..<32 { memory.write(1, to: page) }
    try source.start()
    for page in 0..<64 { memory.write(2, to: page, through: .second) }
    #expect(try source.collect(into: help.log) == 0)
    #expect(memory.read(5) == 2)
    memory.write(3, to: 9)
    #expect(try source.collect(into: help.log) == 1)
    #expect(help.take() == [9])
  }

  @Test func `more runs than one scan reports are all found`() throws {
    let memory = SharedPages(pageCount: 6000)
    let help = try LogWithReader([memory.region()])
    let source = PagemapScanSource(regions: [memory.region()])
    try source.start()
    for page in stride(from: 0, to: 6000, by: 2) { memory.write(1, to: page) }
    #expect(try source.collect(into: help.log) == 3000)
    #expect(help.take() == stride(from: 0, to: 6000, by: 2).map { UInt64($0) })
    #expect(try source.collect(into: help.log) == 0)
  }

  @Test func `regions are reported by the GPA they have`() throws {
    let memory = SharedPages(pageCount: 300)
    let regions = [
      memory.region("low", at: 0x10_0000, pages: 0...99),
      memory.region("high", at: 0x1_0000_0000, pages: 100...299),
    ]
    let help = try LogWithReader(regions)
    let source = PagemapScanSource(regions: regions)
    try source.start()
    let seed = TestSeed.seed(default: 31)
    var random = SeededGenerator(seed: seed)
    for round in 0..<20 {
      var expected: Set<UInt64> = []
      for _ in 0..<random.below(80) {
        let page = random.below(300)
        if random.once(in: 3) {
          memory.write(UInt64(round), to: page, through: .second)
        } else {
          memory.write(UInt64(round), to: page)
          expected.insert(page < 100 ? 0x100 + UInt64(page) : 0x10_0000 + UInt64(page - 100))
        }
      }
      #expect(try source.collect(into: help.log) == UInt64(expected.count))
      #expect(
        help.take() == expected.sorted(),
        "\(TestSeed.reproduce(seed, filter: "PagemapScanTests"))")
    }
  }

  @Test func `a stop ends it and a second start begins clean`() throws {
    let memory = SharedPages(pageCount: 16)
    let help = try LogWithReader([memory.region()])
    let source = PagemapScanSource(regions: [memory.region()])
    #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
    try source.start()
    memory.write(1, to: 1)
    source.stop()
    source.stop()
    #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
    memory.write(1, to: 2)
    try source.start()
    try source.start()
    #expect(try source.collect(into: help.log) == 0)
    memory.write(1, to: 3)
    #expect(try source.collect(into: help.log) == 1)
    #expect(help.take() == [3])
  }

  @Test func `memory that is watched already is refused by name and stays watched`() throws {
    let memory = SharedPages(pageCount: 16)
    let help = try LogWithReader([memory.region()])
    let first = PagemapScanSource(regions: [memory.region()])
    let second = PagemapScanSource(regions: [memory.region()])
    try first.start()
    let error = #expect(throws: CPUDirtyError.self) { try second.start() }
    #expect(error?.operation == "ioctl UFFDIO_REGISTER")
    #expect(error?.errno == 16)
    #expect(error?.detail.contains("another userfaultfd") == true)
    memory.write(1, to: 3)
    #expect(try first.collect(into: help.log) == 1)
  }

  /// Every page holds a generation that only grows. What was sent of a page is either what it holds
  /// now, or the page is reported.
  @Test func `no write of a running thread is lost`() throws {
    #expect(try lostPages(collectsTwice: true) == 0)
  }

  @Test func `the oracle finds a collection that is thrown away`() throws {
    #expect(try lostPages(collectsTwice: false) > 0)
  }

  /// - Parameter collectsTwice: false plants the fault: the last collection is left out.
  private func lostPages(collectsTwice: Bool) throws -> Int {
    let memory = SharedPages(pageCount: 512)
    let help = try LogWithReader([memory.region()])
    let source = PagemapScanSource(regions: [memory.region()])
    try source.start()
    var sent = (0..<512).map { memory.read($0) }
    let isOver = Atomic(false)
    let written = Atomic(0)
    let rounds = 100
    try withThread {
      var random = SeededGenerator(seed: 5)
      var generation: UInt64 = 0
      while !isOver.load(ordering: .acquiring) {
        generation += 1
        memory.write(generation, to: random.below(512))
        written.add(1, ordering: .releasing)
      }
    } while: {
      for _ in 0..<rounds {
        _ = try source.collect(into: help.log)
        for page in help.take() { sent[Int(page)] = memory.read(Int(page)) }
      }
      let count = written.load(ordering: .acquiring)
      while written.load(ordering: .acquiring) < count + 100 { sched_yield() }
      isOver.store(true, ordering: .releasing)
    }
    if collectsTwice { _ = try source.collect(into: help.log) }
    for page in help.take() { sent[Int(page)] = memory.read(Int(page)) }
    return (0..<512).filter { sent[$0] != memory.read($0) }.count
  }
}

/// Runs `work` in a thread of its own during `body`, and waits for its end.
func withThread(_ work: @escaping @Sendable () -> Void, while body: () throws -> Void) rethrows {
  let isDone = DispatchSemaphore(value: 0)
  Thread {
    work()
    isDone.signal()
  }.start()
  defer { isDone.wait() }
  try body()
}
