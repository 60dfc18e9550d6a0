import Addressing
import CPUDirty
import GuestDirtyLog
import KernelTestSupport
import Locking
import Testing

/// KVM's rules and failures, on a kernel of the test's own; runs on every machine.
@Suite struct KVMFaultTests {
  static let regions = [
    RAMRegion(
      name: "low", gpa: GPARange(first: GPA(0), byteCount: 103 << 12)!, hvaFirst: HVA(1 << 32)),
    RAMRegion(
      name: "high", gpa: GPARange(first: GPA(1 << 32), byteCount: 10_000 << 12)!,
      hvaFirst: HVA(1 << 33)),
  ]
  static let slots = regions.indices.map { KVMSlot(number: UInt32($0 + 1), regions[$0])! }
  static let written: [(slot: UInt32, page: UInt64)] = [
    (1, 0), (1, 63), (1, 64), (1, 102), (2, 5), (2, 9_999),
  ]
  static let all: [UInt64] = [0, 63, 64, 102, 1 << 20 + 5, 1 << 20 + 9_999]

  static func source(_ way: KVMWay, _ kvm: FakeKVM) throws -> any CPUDirtySource {
    switch way {
    case .automatic: KVMBitmapSource(vm: 3, slots: slots, clearing: .automatic, calls: kvm)
    case .manual: KVMBitmapSource(vm: 3, slots: slots, clearing: .manual, calls: kvm)
    case .ring:
      KVMRingSource(
        vm: 3, ring: KVMRing(entryCount: 4096), vcpus: [4, 5], slots: slots, calls: kvm
      ) {}
    }
  }

  static func fake(_ way: KVMWay, failing: Int = 0) -> FakeKVM {
    FakeKVM(slots, hasRing: way == .ring, failing: failing)
  }

  /// Starts, has the guest write, collects, stops.
  private func run(
    _ way: KVMWay, _ kvm: FakeKVM
  ) throws -> (error: CPUDirtyError?, pages: [UInt64], didStart: Bool) {
    let help = try LogWithReader(Self.regions)
    let source = try Self.source(way, kvm)
    var didStart = false
    var failure: CPUDirtyError?
    do throws(CPUDirtyError) {
      try source.start()
      didStart = true
      for (slot, page) in Self.written { kvm.write(page, slot: slot) }
      _ = try source.collect(into: help.log)
    } catch {
      failure = error
    }
    source.stop()
    return (failure, help.take(), didStart)
  }

  @Test(arguments: KVMWay.allCases)
  func `each failure is named, undone, and hides no page that was read`(way: KVMWay) throws {
    let sound = Self.fake(way)
    let (none, pages, _) = try run(way, sound)
    #expect(none == nil)
    #expect(pages == Self.all)
    let names = sound.state.withLock { $0.names }
    #expect(names.count >= 6)
    for (index, name) in names.enumerated() {
      let kvm = Self.fake(way, failing: index + 1)
      let (error, pages, didStart) = try run(way, kvm)
      let place: Comment = "call \(index + 1), \(name)"
      let isForgiven =
        index >= names.count - 2 || way == .automatic && name == "ioctl KVM_ENABLE_CAP"
        // It is made again.
        || name == "ioctl KVM_RESET_DIRTY_RINGS"
      #expect(error?.operation == (isForgiven ? nil : name), place)
      #expect(error?.detail.isEmpty != true, place)
      #expect(didStart || pages == [], place)
      if name == "ioctl KVM_CLEAR_DIRTY_LOG" || name == "ioctl KVM_RESET_DIRTY_RINGS" {
        // What was read is marked though it could not be cleared; all of it from a ring.
        #expect(pages.starts(with: Self.all.prefix(way == .ring ? 6 : 4)), place)
      }
      kvm.state.withLock { state in
        #expect(state.mappedRings == 0, place)
        #expect(didStart || state.logging.isEmpty, place)
      }
    }
  }

  @Test(arguments: [KVMWay.manual, .ring])
  func `a page is protected again before a reader can see it`(way: KVMWay) throws {
    let help = try LogWithReader(Self.regions)
    let seen = Mutex<[UInt64]>([])
    let kvm = FakeKVM(
      Self.slots, hasRing: way == .ring,
      whileProtecting: {
        seen.withLock { $0.append(help.log.dirtyPageCount(for: help.reader)) }
      })
    let source = try Self.source(way, kvm)
    try source.start()
    kvm.write(7, slot: 1)
    #expect(try source.collect(into: help.log) == 1)
    #expect(seen.withLock { $0 } == [0], "the log had the page while it was unprotected")
    #expect(help.take() == [7])
    kvm.write(7, slot: 1)
    #expect(try source.collect(into: help.log) == 1, "protected again, the next write is noticed")
    // The check notices: marked before the clear, it is not nothing.
    help.log.mark(Self.regions[0].gpa, by: .vcpu)
    kvm.whileProtecting()
    #expect(seen.withLock { $0.last } == 103)
  }

  @Test func `clears are of whole groups of 64 pages, or end the slot`() throws {
    let help = try LogWithReader(Self.regions)
    let kvm = Self.fake(.manual)
    let source = try Self.source(.manual, kvm)
    try source.start()
    for (slot, page) in Self.written { kvm.write(page, slot: slot) }
    #expect(try source.collect(into: help.log) == 6)
    let clears = kvm.state.withLock { $0.clears }
    #expect(clears.map(\.firstPage) == [0, 0, 9_984])
    #expect(clears.map(\.pageCount) == [103, 64, 16])
    #expect(try source.collect(into: help.log) == 0)
    // The check notices: the fake refuses what the kernel refuses.
    let words: [UInt64] = [1, 0]
    #expect(kvm.clearDirtyLog(3, slot: 1, words: words, wordRange: 1..<2, pageCount: 32) == -22)
  }

  @Test func `a reset that a signal cuts short is made again`() throws {
    let help = try LogWithReader(Self.regions)
    let kvm = FakeKVM(Self.slots, hasRing: true, resetCountMax: 2)
    let source = try Self.source(.ring, kvm)
    try source.start()
    for (slot, page) in Self.written { kvm.write(page, slot: slot) }
    #expect(try source.collect(into: help.log) == 6)
    #expect(kvm.state.withLock { $0.names.filter { $0.contains("RESET") }.count } == 3)
    let stuck = FakeKVM(Self.slots, hasRing: true, resetCountMax: 0)
    let other = try Self.source(.ring, stuck)
    try other.start()
    stuck.write(1, slot: 1)
    let error = #expect(throws: CPUDirtyError.self) { try other.collect(into: help.log) }
    #expect(error?.detail.contains("1 of the entries") == true)
  }

  @Test func `an entry of a slot it does not know is a failure after the others are marked`() throws
  {
    let help = try LogWithReader(Self.regions)
    let kvm = Self.fake(.ring)
    let source = try Self.source(.ring, kvm)
    try source.start()
    kvm.state.withLock { state in
      state.ring = [
        KVMRingEntry(slot: 9, page: 0), KVMRingEntry(slot: 1, page: 103),
        KVMRingEntry(slot: 1, page: 2),
      ]
    }
    let error = #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
    #expect(error?.detail.contains("page 0 of slot 9") == true)
    #expect(help.take() == [2])
  }

  @Test func `a ring full to its last entry lost some, and fails from there on`() throws {
    let help = try LogWithReader(Self.regions)
    for count: UInt64 in [63, 64] {
      let kvm = FakeKVM(Self.slots, hasRing: true)
      let source = KVMRingSource(
        vm: 3, ring: KVMRing(entryCount: 64), vcpus: [4], slots: Self.slots, calls: kvm
      ) {}
      try source.start()
      for page in 0..<count { kvm.write(page, slot: 2) }
      if count < 64 {
        #expect(try source.collect(into: help.log) == count)
        #expect(help.take().count == 63)
        continue
      }
      for _ in 0..<2 {
        let error = #expect(throws: CPUDirtyError.self) { try source.collect(into: help.log) }
        #expect(error?.detail.contains("of 64 entries, was overrun") == true)
      }
      #expect(help.take().count == 64, "what was read is marked all the same")
      source.stop()
      #expect(throws: CPUDirtyError.self) { try source.start() }
    }
  }

  @Test func `without KVM each source fails by name`() {
    // No descriptor of a VM: what a machine without /dev/kvm has.
    let bitmap = KVMBitmapSource(vm: -1, slots: Self.slots)
    #expect(bitmap.clearing == .automatic)
    let error = #expect(throws: CPUDirtyError.self) { try bitmap.start() }
    #expect(error?.errno == 9)
    #expect(error?.operation == "ioctl KVM_SET_USER_MEMORY_REGION")
    let manual = KVMBitmapSource(vm: -1, slots: Self.slots, clearing: .manual)
    let refused = #expect(throws: CPUDirtyError.self) { try manual.start() }
    #expect(refused?.operation == "ioctl KVM_ENABLE_CAP")
    #expect(refused?.detail.contains("Linux 5.2") == true)
    let ring = #expect(throws: CPUDirtyError.self) { try KVMRing.enable(-1) }
    #expect(ring?.detail.contains("KVMBitmapSource") == true)
    if let refusal = TinyGuest.unavailable {
      #expect(refusal.description.hasPrefix("/dev/kvm: "))
      #expect(refusal.errno > 0)
    }
  }
}
