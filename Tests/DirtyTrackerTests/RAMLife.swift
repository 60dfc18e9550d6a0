import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport

/// RAM that comes, goes, is given back and taken again, under two containers of which one may fail.
///
/// The model goes by what each refusal promises. A container none of whose calls failed has to be
/// as if nothing had.
final class RAMLife {
  /// One container, and what its failures have left open.
  struct Side {
    let id: ContainerID
    let container: any DMAContainer
    let port: SimulatedDevicePort
    let faults: FaultPlan
    var isIdentity = true
    /// Pages of RAM that a refusal may have left unmapped.
    var mayLack: Set<UInt64> = []
    /// Pages that a refusal may have left mapped.
    var mayStay: Set<UInt64> = []
    /// It has stopped half way: it may lack what the table holds.
    var backendMayLack = false
  }

  enum Change {
    case add(region: UInt64)
    case remove(region: UInt64)
    case discard(first: UInt64, count: UInt64)
    case populate(first: UInt64, count: UInt64)
    case switchSpace(side: Int)
  }

  static let regionPages: UInt64 = 8
  /// Regions have as much between them.
  static let pageCount = 6 * regionPages

  let memory = GenerationMemory(pageCount: pageCount)
  let tracker: DirtyTracker
  let reader: ConsumerID
  var sides: [Side] = []
  var regions: Set<UInt64> = []
  var discarded: Set<UInt64> = []
  var copied: [UInt64: UInt64] = [:]
  /// The first promise that was not held.
  var problem: String?
  private(set) var refusalCount = 0
  private var random: SeededGenerator

  init(seed: UInt64) throws {
    random = SeededGenerator(seed: seed)
    // RAM in one piece, or in pieces of half a region.
    let pieces: UInt64 = random.once(in: 2) ? 1 << 30 : Self.regionPages / 2 << 12
    tracker = DirtyTracker(
      log: GuestDirtyLog(),
      policy: TrackerPolicy(rearmPageCount: 2, identityMappingByteCountMax: pieces))
    reader = try tracker.log.addConsumer("destination", startsDirty: true)
    let faults = (FaultPlan(), FaultPlan())
    let type1 = SimulatedType1(memory: memory, faults: faults.0)
    let log = SimulatedDeviceLog(
      name: "device log", rangeCountMax: 4, granule: .page, statesGranule: true,
      ignoresSecondStart: true, faults: faults.0)
    let nic = type1.attachDevice("nic", log: log)
    let ioas = SimulatedIOMMUFD(memory: memory, faults: faults.1)
    let disk = ioas.attachDevice("disk", to: ioas.allocateHWPT("hwpt"))
    try add(type1, nic, faults.0)
    try add(ioas, disk, faults.1)
    _ = tracker.startTracking()
  }

  private func add(
    _ container: any DMAContainer, _ port: SimulatedDevicePort, _ faults: FaultPlan
  ) throws {
    let id = try tracker.addContainer(container, addressSpace: .identity)
    sides.append(Side(id: id, container: container, port: port, faults: faults))
  }

  static func pages(ofRegion region: UInt64) -> Set<UInt64> {
    Set(2 * region * regionPages..<(2 * region + 1) * regionPages)
  }

  static func region(_ number: UInt64) -> RAMRegion {
    RAMRegion(name: "ram\(number)", gpa: World.gpa(2 * number * regionPages, regionPages))
  }

  /// - Returns: what is wrong, empty when nothing is.
  func run(steps: Int, failing moment: FaultPlan.Moment) -> [String] {
    for step in 0..<steps {
      for side in sides { side.faults.reset() }
      if random.once(in: 2) {
        sides[random.below(2)].faults.reset([
          .init(nil, ordinal: 1 + random.below(3), errno: ContainerErrno.eio, moment: moment)
        ])
      }
      switch random.below(8) {
      case 0: _ = tracker.sync(isFinal: false)
      case 1: harvest()
      case 2, 3:
        for _ in 0..<4 { _ = sides[random.below(2)].port.touch(IOVA(anyPage() << 12)) }
      default: if let change = anyChange() { perform(change) }
      }
      for side in sides.indices where sides[side].faults.failedCount > 0 && moment != .before {
        sides[side].backendMayLack = true
      }
      if let difference { return ["step \(step): \(difference)"] }
    }
    return lost() + recover()
  }

  private func anyPage() -> UInt64 { random.below(Self.pageCount) }

  private func anyChange() -> Change? {
    let region = random.below(Self.pageCount / Self.regionPages / 2)
    guard regions.contains(region) else { return .add(region: region) }
    let offset = random.below(Self.regionPages)
    let first = 2 * region * Self.regionPages + offset
    let count = 1 + random.below(Self.regionPages - offset)
    switch random.below(8) {
    case 0: return .remove(region: region)
    case 1...3: return .discard(first: first, count: count)
    case 4...6: return .populate(first: first, count: count)
    default: return .switchSpace(side: random.below(2))
    }
  }

  func perform(_ change: Change) {
    let mappingCounts = sides.map { tracker.mappings(of: $0.id).count }
    var refusal: TrackerError?
    do throws(TrackerError) {
      switch change {
      case .add(let region): try tracker.regionAdded(Self.region(region))
      case .remove(let region): try tracker.regionRemoved(Self.region(region))
      case .discard(let first, let count): try tracker.ramDiscarded(World.gpa(first, count))
      case .populate(let first, let count): try tracker.ramPopulated(World.gpa(first, count))
      case .switchSpace(let side):
        try tracker.switchAddressSpace(
          sides[side].id, to: sides[side].isIdentity ? .remapped : .identity)
      }
    } catch {
      refusal = error
      refusalCount += 1
    }
    learn(change, refusal, mappingCounts)
  }

  func harvest() {
    let harvest = tracker.log.harvest(for: reader, pageCountMax: .max, runCountMax: .max)
    for run in harvest.runs {
      for page in run.first.rawValue >> 12...run.last.rawValue >> 12 {
        copied[page] = memory.generation(page)
      }
    }
    tracker.log.delivered(harvest)
  }

  private func lost() -> [String] {
    for side in sides { side.faults.reset() }
    _ = tracker.sync(isFinal: true)
    harvest()
    let there = regions.reduce(into: Set<UInt64>()) { $0.formUnion(Self.pages(ofRegion: $1)) }
    let lost = memory.pages.filter { there.contains($0.key) && copied[$0.key] != $0.value }.keys
    return lost.isEmpty ? [] : ["pages \(lost.sorted()) are lost"]
  }
}
