import Addressing
import CPUDirty
import GuestDirtyLog
import Locking
import TestSupport
import Testing

/// Resets that protect less than was taken (Linux 2025: a pending signal ends them).
@Suite struct KVMRingResetTests {
  static let slots = KVMFaultTests.slots

  static func source(_ kvm: FakeKVM) throws -> any CPUDirtySource {
    try KVMFaultTests.source(.ring, kvm)
  }

  @Test(arguments: [0, -4, -5] as [Int32])
  func `a page written again before its reset came is in the collection of that reset`(
    answer: Int32
  ) throws {
    let help = try LogWithReader(KVMFaultTests.regions)
    let isStorm = Mutex(true)
    let kvm = FakeKVM(
      Self.slots, hasRing: true,
      resetPlan: { count in isStorm.withLock { $0 } ? answer : Int32(count) })
    let source = try Self.source(kvm)
    try source.start()
    kvm.write(5, slot: 1)
    let error = #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
    #expect(error?.detail.contains("1 of the entries taken were not reset") == true)
    #expect(help.take() == [5], "what was taken is marked though it could not be reset")
    // Not protected: KVM is silent about this one.
    kvm.write(5, slot: 1)
    isStorm.withLock { $0 = false }
    #expect(try source.collect(into: help.log) == 1)
    #expect(help.take() == [5])
    #expect(try source.collect(into: help.log) == 0, "protected and marked, it is forgotten")
    kvm.write(5, slot: 1)
    #expect(try source.collect(into: help.log) == 1)
  }

  @Test func `a reset of nothing is tried again before the collection fails`() throws {
    let help = try LogWithReader(KVMFaultTests.regions)
    for (idleCount, fails) in [(1, false), (63, false), (64, true)] {
      let left = Mutex(idleCount)
      let kvm = FakeKVM(
        Self.slots, hasRing: true,
        resetPlan: { count in
          left.withLock { left in
            left -= 1
            return left >= 0 ? 0 : Int32(count)
          }
        })
      let source = try Self.source(kvm)
      try source.start()
      kvm.write(7, slot: 1)
      if fails {
        #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
      } else {
        #expect(try source.collect(into: help.log) == 1)
      }
      #expect(help.take() == [7])
    }
  }

  @Test func `a reset that fails in start is no reason to give up, and its pages are reported`()
    throws
  {
    let help = try LogWithReader(KVMFaultTests.regions)
    let isStorm = Mutex(true)
    let kvm = FakeKVM(
      Self.slots, hasRing: true,
      resetPlan: { count in isStorm.withLock { $0 } ? 0 : Int32(count) })
    let source = try Self.source(kvm)
    try source.start()
    kvm.write(3, slot: 1)
    source.stop()
    kvm.state.withLock { _ = $0.logging.insert(1) }
    kvm.write(9, slot: 1)
    // The entry of page 9 is taken in `start`, where its reset fails.
    try source.start()
    kvm.write(9, slot: 1)
    isStorm.withLock { $0 = false }
    _ = try source.collect(into: help.log)
    #expect(help.take().contains(9))
    #expect(try source.collect(into: help.log) == 0)
  }

  /// Writes, collections, stops and starts under a storm; after each collection what was written
  /// is in the log, or the collection failed, which makes everything dirty.
  static func lostPages(
    _ kvm: FakeKVM, _ random: inout SeededGenerator
  ) throws -> [UInt64] {
    let help = try LogWithReader(KVMFaultTests.regions)
    let source = try source(kvm)
    try source.start()
    var owed: Set<UInt64> = []
    var lost: [UInt64] = []
    for _ in 0..<200 {
      for _ in 0..<random.below(8) {
        let page = random.below(100 as UInt64)
        kvm.write(page, slot: 1)
        owed.insert(page)
      }
      if random.once(in: 20) {
        source.stop()
        try source.start()
        owed = []
      }
      do throws(CPUDirtyError) {
        _ = try source.collect(into: help.log)
        lost += owed.subtracting(help.take())
      } catch {
        #expect(error.operation == "ioctl KVM_RESET_DIRTY_RINGS")
        _ = help.take()
      }
      owed = []
    }
    return lost
  }

  @Test func `no page is lost whatever the resets answer`() throws {
    let seed = TestSeed.seed(default: 1715)
    var random = SeededGenerator(seed: seed)
    for _ in 0..<40 {
      let storm = ShortResets(seed: random.next())
      let kvm = FakeKVM(Self.slots, hasRing: true, resetPlan: storm.answer)
      let lost = try Self.lostPages(kvm, &random)
      if !lost.isEmpty {
        Issue.record("\(lost) \(TestSeed.reproduce(seed, filter: "KVMRingResetTests"))")
        return
      }
    }
  }

  @Test func `the oracle notices a reset that protects nothing and says that it did`() throws {
    var random = SeededGenerator(seed: 1)
    let kvm = FakeKVM(Self.slots, hasRing: true, resetLies: true)
    #expect(try !Self.lostPages(kvm, &random).isEmpty)
  }
}
