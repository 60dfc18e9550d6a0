import Addressing
import CPUDirty
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import KernelTestSupport
import Simulation
import TestSupport
import Testing

/// How KVM is asked.
enum KVMWay: String, CaseIterable, Sendable { case automatic, manual, ring }

/// A real guest of two slots, one of them not of whole groups of 64 pages, and its source.
struct KVMWorld {
  static let low = 16..<119
  static let high = 128..<192
  static var pages: [Int] { Array(low) + Array(high) }

  let guest: TinyGuest
  let memory: SharedPages
  let regions: [RAMRegion]
  let slots: [KVMSlot]
  let source: any CPUDirtySource

  init(_ way: KVMWay, ringEntryCount: UInt32 = 4096) throws {
    memory = SharedPages(pageCount: Self.low.count + Self.high.count)
    let split = Self.low.count
    regions = [
      memory.region("low", at: UInt64(Self.low.lowerBound) << 12, pages: 0...(split - 1)),
      memory.region(
        "high", at: UInt64(Self.high.lowerBound) << 12,
        pages: split...(memory.pageCount - 1)),
    ]
    guest = try TinyGuest()
    let ring = way == .ring ? try KVMRing.enable(guest.vm, entryCount: ringEntryCount) : nil
    try guest.addVCPU()
    for (index, region) in regions.enumerated() {
      try guest.addMemory(region, slot: UInt32(index + 1))
    }
    slots = regions.enumerated().compactMap { KVMSlot(number: UInt32($0.offset + 1), $0.element) }
    switch way {
    case .automatic:
      source = KVMBitmapSource(vm: guest.vm, slots: slots, clearing: .automatic)
    case .manual: source = KVMBitmapSource(vm: guest.vm, slots: slots, clearing: .manual)
    case .ring:
      // The guest runs inside of `write` only, so it has always left.
      source = KVMRingSource(vm: guest.vm, ring: ring!, vcpus: [guest.vcpu], slots: slots) {}
    }
  }
}

enum KVMHost {
  static let skipped: Comment =
    "needs a KVM that runs real-mode guests: \(TinyGuest.unavailable?.description ?? "present")"
}

/// What a real guest wrote under the machine's own KVM.
@Suite(.enabled(if: TinyGuest.unavailable == nil, KVMHost.skipped), .serialized)
struct KVMGuestTests {
  @Test(arguments: KVMWay.allCases)
  func `the pages a guest wrote are reported, these and no others, once`(way: KVMWay) throws {
    let world = try KVMWorld(way)
    let help = try LogWithReader(world.regions)
    #expect(try world.guest.write([17, 130]) == .done)
    try world.source.start()
    #expect(try world.source.collect(into: help.log) == 0, "what was written before the start")
    let seed = TestSeed.seed(default: 0x6b76_6d01)
    var random = SeededGenerator(seed: seed)
    for round in 0..<40 {
      let pages = (0..<random.below(60)).map { _ in KVMWorld.pages.randomElement(using: &random)! }
      #expect(try world.guest.write(pages) == .done)
      let wanted = Set(pages)
      let again = TestSeed.reproduce(seed, filter: "KVMGuestTests")
      let reported = try world.source.collect(into: help.log)
      // A ring may name a page twice.
      #expect(
        way == .ring
          ? reported >= wanted.count : reported == wanted.count, "round \(round); \(again)")
      #expect(Set(help.take().map(Int.init)) == wanted, "round \(round); \(again)")
    }
    #expect(try world.source.collect(into: help.log) == 0)
    world.source.stop()
    #expect(throws: CPUDirtyError.self) { try world.source.collect(into: help.log) }
    // And once more: what was written while stopped is not reported.
    #expect(try world.guest.write([20, 118]) == .done)
    try world.source.start()
    #expect(try world.guest.write([118, 191]) == .done)
    #expect(try world.source.collect(into: help.log) == 2)
    #expect(help.take() == [118, 191])
  }

  @Test(arguments: KVMWay.allCases)
  func `what this process writes is not a vCPU's write`(way: KVMWay) throws {
    let world = try KVMWorld(way)
    let help = try LogWithReader(world.regions)
    try world.source.start()
    world.memory.write(7, to: 3)
    #expect(try world.guest.write([16]) == .done)
    _ = try world.source.collect(into: help.log)
    #expect(help.take() == [16])
  }

  @Test func `a bitmap of a VM with rings is ENXIO, and says what to use`() throws {
    let world = try KVMWorld(.ring)
    let bitmap = KVMBitmapSource(vm: world.guest.vm, slots: world.slots)
    let error = #expect(throws: CPUDirtyError.self) { try bitmap.start() }
    #expect(error?.errno == 6)
    #expect(error?.operation == "ioctl KVM_GET_DIRTY_LOG")
    #expect(error?.detail.contains("KVMRingSource") == true)
  }

  @Test func `rings after a vCPU, or of a size KVM has not, are refused by name`() throws {
    let guest = try TinyGuest()
    let small = #expect(throws: CPUDirtyError.self) {
      try KVMRing.enable(guest.vm, entryCount: 16)
    }
    #expect(small?.errno == 22)
    try guest.addVCPU()
    let late = #expect(throws: CPUDirtyError.self) { try KVMRing.enable(guest.vm) }
    #expect(late?.errno == 22)
    #expect(late?.detail.contains("has vCPUs") == true)
  }

  @Test func `KVM refuses a clear that is not of whole groups of 64 pages`() throws {
    let world = try KVMWorld(.manual)
    try world.source.start()
    #expect(try world.guest.write([16 + 64, 16 + 102]) == .done)
    let calls = LinuxKVMCalls()
    var words: [UInt64] = [~0, ~0]
    #expect(calls.getDirtyLog(world.guest.vm, slot: 1, into: &words) == 0)
    #expect(words == [0, 1 | 1 << 38])
    func clear(_ range: Range<Int>, _ pageCount: UInt32) -> Int32 {
      calls.clearDirtyLog(
        world.guest.vm, slot: 1, words: words, wordRange: range, pageCount: pageCount)
    }
    #expect(clear(1..<2, 32) == -22)
    #expect(clear(1..<2, 64) == -22)
    #expect(clear(1..<2, 39) == 0)
    #expect(calls.getDirtyLog(world.guest.vm, slot: 1, into: &words) == 0)
    #expect(words == [0, 0])
  }

  @Test func `a ring that fills up stops the guest, and loses nothing without saying so`() throws {
    let world: KVMWorld
    do {
      world = try KVMWorld(.ring, ringEntryCount: 256)
    } catch let error as CPUDirtyError {
      // With page modification logging the kernel keeps more than that in reserve.
      #expect(error.errno == 22)
      return
    }
    let help = try LogWithReader(world.regions)
    try world.source.start()
    var stop = try world.guest.write(KVMWorld.pages + KVMWorld.pages.reversed())
    var pages: Set<UInt64> = []
    do {
      while true {
        _ = try world.source.collect(into: help.log)
        pages.formUnion(help.take())
        if stop == .done { break }
        stop = try world.guest.goOn()
      }
      #expect(pages.map(Int.init).sorted() == KVMWorld.pages)
    } catch let error as CPUDirtyError {
      // A KVM that emulates real mode overruns the ring before the guest leaves.
      #expect(error.detail.contains("was overrun"), "\(error)")
      #expect(throws: CPUDirtyError.self) { try world.source.collect(into: help.log) }
      world.source.stop()
      #expect(throws: CPUDirtyError.self) { try world.source.start() }
    }
  }

  /// Since 2025 a reset ends at a pending signal, perhaps before its first entry.
  @Test func `under a storm of signals no page the guest wrote is lost`() throws {
    let world = try KVMWorld(.ring)
    let help = try LogWithReader(world.regions)
    try world.source.start()
    let seed = TestSeed.seed(default: 0x7369_6701)
    var random = SeededGenerator(seed: seed)
    let lost = try SignalStorm.during { () throws -> Set<Int> in
      var lost: Set<Int> = []
      for _ in 0..<1000 {
        let pages = (0..<random.below(40)).map { _ in KVMWorld.pages.randomElement(using: &random)!
        }
        #expect(try world.guest.write(pages) == .done)
        // One that fails makes everything dirty.
        do throws(CPUDirtyError) {
          _ = try world.source.collect(into: help.log)
          lost.formUnion(Set(pages).subtracting(help.take().map(Int.init)))
        } catch {
          #expect(error.operation == "ioctl KVM_RESET_DIRTY_RINGS")
          _ = help.take()
        }
      }
      return lost
    }
    #expect(lost == [], "\(TestSeed.reproduce(seed, filter: "KVMGuestTests"))")
  }

  @Test(arguments: KVMWay.allCases)
  func `a vCPU's and a device's writes are in one log`(way: KVMWay) throws {
    let world = try KVMWorld(way)
    let log = GuestDirtyLog()
    let tracker = DirtyTracker(log: log, cpu: world.source)
    for region in world.regions { try tracker.regionAdded(region) }
    let container = SimulatedIOMMUFD(memory: DeviceMemory(world.memory, world.regions))
    let port = container.attachDevice("nic", to: container.allocateHWPT("nic HWPT"))
    let id = try tracker.addContainer(container, addressSpace: .remapped)
    let reader = try tracker.log.addConsumer("destination", startsDirty: false)
    // IOVA page 1000 is GPA page 130, and 16 pages on.
    let iova = IOVARange(first: IOVA(1000 << 12), byteCount: 16 << 12)!
    try tracker.iommuMap(id, iova, to: GPA(130 << 12), permissions: .readWrite)
    _ = tracker.startTracking()
    func round(_ byVCPU: [Int], _ byDevice: [UInt64], unmapping: Bool = false) throws -> [UInt64] {
      #expect(try world.guest.write(byVCPU) == .done)
      for page in byDevice { #expect(port.touch(IOVA(page << 12)) != nil) }
      if unmapping { try tracker.iommuUnmap(id, iova) }
      let report = tracker.sync(isFinal: false)
      #expect(report.vcpuDirtyPages >= byVCPU.count)
      let harvest = log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
      log.delivered(harvest)
      return harvest.runs.flatMap {
        Array(($0.first.rawValue >> 12)...($0.last.rawValue >> 12))
      }
    }
    #expect(try round([16, 131], [1000, 1001]) == [16, 130, 131])
    #expect(try round([], []) == [])
    // An unmap may report more than was written, of what it unmaps.
    let last = try round([191, 192 - 46], [1015], unmapping: true)
    #expect(last.contains(145))
    #expect(last.filter { !(130...145).contains($0) } == [146, 191])
    _ = tracker.stopTracking()
  }
}
