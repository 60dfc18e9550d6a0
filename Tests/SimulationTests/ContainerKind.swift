import Addressing
import DMAContainer
import Simulation
import TestSupport

/// Every kind of container this project simulates, with one device.
enum ContainerKind: String, CaseIterable, Sendable {
  case type1Pinned
  case type1PinnedWithLimit
  case type1EverythingMapped
  case type1FalseTailBits
  case type1DeviceLog
  case iommufdTracking
  case iommufdNotTracking
  case iommufdDeviceLog
  case iommufdMixed

  func make(faults: FaultPlan? = nil) -> (any DMAContainer, any DMAPort, ContainerTestMemory) {
    let memory = ContainerTestMemory()
    switch self {
    case .type1Pinned:
      let container = SimulatedType1(memory: memory, faults: faults)
      return (container, container.attachMediatedDevice("mdev"), memory)
    case .type1PinnedWithLimit:
      let container = SimulatedType1(memory: memory, faults: faults)
      return (container, container.attachMediatedDevice("mdev", pinnedPageCountMax: 3), memory)
    case .type1EverythingMapped:
      let container = SimulatedType1(memory: memory, faults: faults)
      return (container, container.attachDevice("nic"), memory)
    case .type1FalseTailBits:
      let container = SimulatedType1(memory: memory, reportsFalseTailBits: true, faults: faults)
      return (container, container.attachMediatedDevice("mdev"), memory)
    case .type1DeviceLog:
      let container = SimulatedType1(memory: memory, faults: faults)
      let log = SimulatedDeviceLog(name: "nic log", faults: faults)
      return (container, container.attachDevice("nic", log: log), memory)
    case .iommufdTracking:
      let container = SimulatedIOMMUFD(memory: memory, faults: faults)
      return (container, container.attachDevice("nic", to: container.allocateHWPT("hwpt")), memory)
    case .iommufdNotTracking:
      let container = SimulatedIOMMUFD(memory: memory, faults: faults)
      return (container, container.attachDevice("nic"), memory)
    case .iommufdDeviceLog:
      let container = SimulatedIOMMUFD(memory: memory, faults: faults)
      let log = SimulatedDeviceLog(name: "nic log", faults: faults)
      return (container, container.attachDevice("nic", log: log), memory)
    case .iommufdMixed:
      let container = SimulatedIOMMUFD(memory: memory, faults: faults)
      let log = SimulatedDeviceLog(name: "nic log", faults: faults)
      _ = container.attachDevice("nic", log: log)
      _ = container.attachDevice("gpu", to: container.allocateHWPT("gpu hwpt"))
      return (container, container.attachDevice("disk", to: container.allocateHWPT("hwpt")), memory)
    }
  }

  func fixture() -> ContainerFixture {
    let (container, port, memory) = make()
    return Self.fixture(container, port, memory)
  }

  static func fixture(
    _ container: any DMAContainer, _ port: any DMAPort, _ memory: ContainerTestMemory
  ) -> ContainerFixture {
    ContainerFixture(
      container: container, gpaFirst: memory.gpa.first, ramPageCount: 256,
      write: { port.write([1, 2, 3, 4], at: $0) })
  }
}
