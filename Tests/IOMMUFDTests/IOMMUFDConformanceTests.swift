import Addressing
import DMAContainer
import IOMMUFD
import Simulation
import TestSupport
import Testing

/// What every container promises, held by the real backend on the fake kernel.
@Suite struct IOMMUFDConformanceTests {
  enum Kind: String, CaseIterable, Sendable {
    case tracking, trackingByAddress, trackingOnOldKernel, twoTables, untracking, emulated
  }

  func make(_ kind: Kind) throws -> ContainerFixture {
    let kernel = FakeKernel(lacksMapFile: kind == .trackingOnOldKernel)
    let hardware: FakeKernel.Hardware =
      switch kind {
      case .tracking, .trackingByAddress, .trackingOnOldKernel, .twoTables: .tracking(iommu: 0)
      case .untracking: .untracking
      case .emulated: .emulated
      }
    kernel.add(World.nic, hardware)
    kernel.add(World.gpu, .tracking(iommu: 1))
    let container = try World.container(kernel, byFile: kind != .trackingByAddress)
    try container.attachDevice("nic", path: World.nic)
    if kind == .twoTables { try container.attachDevice("gpu", path: World.gpu) }
    let byAddress = kind == .trackingByAddress || kind == .trackingOnOldKernel
    return ContainerFixture(
      container: byAddress
        ? Addressed(container, gpaFirst: kernel.memory.gpa.first) : container,
      gpaFirst: kernel.memory.gpa.first, ramPageCount: 256,
      write: { kernel.write(World.nic, at: $0) })
  }

  @Test(arguments: Kind.allCases)
  func `the real backend keeps what a container promises`(kind: Kind) throws {
    var thrown: [any Error] = []
    let problems = ContainerConformance.problems {
      do { return try make(kind) } catch {
        thrown.append(error)
        return Self.broken
      }
    }
    #expect(problems == [])
    #expect(thrown.isEmpty)
  }

  private static var broken: ContainerFixture {
    let kernel = FakeKernel()
    return ContainerFixture(
      container: SimulatedIOMMUFD(memory: kernel.memory), gpaFirst: kernel.memory.gpa.first,
      ramPageCount: 256, write: { _ in nil })
  }
}
