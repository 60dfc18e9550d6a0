import Addressing
import CPUDirty
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport
import Testing

/// A whole tracker over a KVM whose ring resets end early, at nothing, or fail, and over a device:
/// whatever comes in whatever order, each page that was written since it was last harvested is in
/// the next harvest after a sync.
@Suite struct KVMModelTests {
  /// Device memory that keeps nothing.
  private final class NoMemory: SimulatedMemory {
    func write(_ bytes: RawSpan, at gpa: GPA) -> Bool { true }
    func read(into buffer: inout MutableRawSpan, at gpa: GPA) -> Bool { true }
  }

  private static let iova = AddressRange(first: IOVA(1 << 32), last: IOVA(1 << 32 + 16 << 12 - 1))

  /// - Returns: pages lost, and how many syncs marked everything.
  private func life(
    _ kvm: FakeKVM, _ random: inout SeededGenerator
  ) throws -> (lost: Set<UInt64>, failedSyncs: Int) {
    let tracker = DirtyTracker(log: GuestDirtyLog(), cpu: try KVMRingResetTests.source(kvm))
    for region in KVMFaultTests.regions { try tracker.regionAdded(region) }
    let ioas = SimulatedIOMMUFD(memory: NoMemory())
    let port = ioas.attachDevice("nic", to: ioas.allocateHWPT("hwpt"))
    let id = try tracker.addContainer(ioas, addressSpace: .remapped)
    let reader = try tracker.log.addConsumer("reader", startsDirty: false)
    var owed: Set<UInt64> = []
    var lost: Set<UInt64> = []
    var failedSyncs = 0
    var isMapped = false
    _ = tracker.startTracking()
    for _ in 0..<120 {
      switch random.below(10) {
      case 0..<5:
        for _ in 0..<random.below(8) {
          let page = random.below(100 as UInt64)
          kvm.write(page, slot: 1)
          owed.insert(page)
        }
      case 5 where isMapped:
        let page = random.below(16 as UInt64)
        if port.touch(IOVA(Self.iova.first.rawValue + page << 12)) != nil { owed.insert(page) }
      case 6:
        if isMapped {
          try tracker.iommuUnmap(id, Self.iova)
        } else {
          try tracker.iommuMap(id, Self.iova, to: GPA(0), permissions: .readWrite)
        }
        isMapped.toggle()
      case 7 where random.once(in: 4):
        _ = tracker.stopTracking()
        _ = tracker.startTracking()
        // What was unread is given up, and a new attempt sends everything.
        _ = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
        owed = []
      default:
        let report = tracker.sync(isFinal: random.once(in: 6))
        if report.notes.contains(where: { $0.contains("KVM_RESET_DIRTY_RINGS") }) {
          failedSyncs += 1
        }
        let harvest = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
        var found: Set<UInt64> = []
        for run in harvest.runs {
          found.formUnion((run.first.rawValue >> 12)...(run.last.rawValue >> 12))
        }
        tracker.log.delivered(harvest)
        lost.formUnion(owed.subtracting(found))
        owed = []
      }
    }
    return (lost, failedSyncs)
  }

  @Test func `resets that end early or fail lose no page of a tracker's guest`() throws {
    let seed = TestSeed.seed(default: 1716)
    var random = SeededGenerator(seed: seed)
    var failedSyncs = 0
    for _ in 0..<40 {
      let storm = ShortResets(seed: random.next())
      let kvm = FakeKVM(KVMFaultTests.slots, hasRing: true, resetPlan: storm.answer)
      let outcome = try life(kvm, &random)
      #expect(outcome.lost == [], "\(TestSeed.reproduce(seed, filter: "KVMModelTests"))")
      failedSyncs += outcome.failedSyncs
    }
    // Otherwise the storm blew past.
    #expect(failedSyncs > 20)
  }

  @Test func `the model notices a reset that protects nothing and says that it did`() throws {
    var random = SeededGenerator(seed: 2)
    let kvm = FakeKVM(KVMFaultTests.slots, hasRing: true, resetLies: true)
    #expect(try !life(kvm, &random).lost.isEmpty)
  }
}
