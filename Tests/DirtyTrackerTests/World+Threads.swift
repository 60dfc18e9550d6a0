import Addressing
import DMAContainer
import DirtyTracker
import GuestDirtyLog
import Simulation
import TestSupport

/// What threads of their own do to a world.
extension World {
  /// Another container, of a kind without faults.
  func addSecond() throws -> (id: ContainerID, ports: [SimulatedDevicePort]) {
    let (backend, ports, _) = Self.container(
      .type1, memory, FaultPlan(), SimulatedDeviceLog(name: "none"))
    let id = try tracker.addContainer(Renamed(backend, "second"), addressSpace: .remapped)
    return (id, ports)
  }

  /// A map or an unmap among 8 pages of IOVA. What is refused changes nothing.
  static func mapOrUnmap(
    _ tracker: DirtyTracker, _ id: ContainerID, _ random: inout SeededGenerator
  ) {
    let page = random.below(8 as UInt64)
    if random.once(in: 3) {
      try? tracker.iommuUnmap(id, iova(page, 1 + random.below(2 as UInt64)))
    } else {
      try? tracker.iommuMap(
        id, iova(page), to: GPA(random.below(16 as UInt64) << 12), permissions: .readWrite)
    }
  }

  /// A harvest of a few pages, delivered or put back.
  static func takeSome(
    _ tracker: DirtyTracker, _ reader: ConsumerID, _ random: inout SeededGenerator
  ) {
    let harvest = tracker.log.harvest(for: reader, pageCountMax: 3, runCountMax: 2)
    if random.once(in: 3) {
      tracker.log.putBack(harvest)
    } else {
      tracker.log.delivered(harvest)
    }
  }
}
