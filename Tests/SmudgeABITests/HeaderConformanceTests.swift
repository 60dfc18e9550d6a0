import Addressing
import DMAContainer
import Simulation
import TestSupport
import Testing

/// What every container promises, asked of one whose dirt goes through smudge.h.
@Suite struct HeaderConformanceTests {
  enum Inner: CaseIterable, Sendable {
    /// Holes are allowed in a query, one call unmaps and reports.
    case type1
    /// Neither.
    case iommufd
  }

  private static func fixture(
    _ inner: Inner, _ fault: HeaderContainer.Fault = .none
  ) -> ContainerFixture {
    let memory = ContainerTestMemory()
    let made: (container: any DMAContainer, port: any DMAPort)
    switch inner {
    case .type1:
      let type1 = SimulatedType1(memory: memory)
      made = (type1, type1.attachMediatedDevice("mdev"))
    case .iommufd:
      let iommufd = SimulatedIOMMUFD(memory: memory)
      made = (iommufd, iommufd.attachDevice("nic", to: iommufd.allocateHWPT("hwpt")))
    }
    return ContainerFixture(
      container: HeaderContainer(made.container, fault: fault), gpaFirst: memory.gpa.first,
      ramPageCount: 256, write: { made.port.write([1, 2, 3, 4], at: $0) })
  }

  @Test(arguments: Inner.allCases)
  func `a container behind the header keeps what a container promises`(inner: Inner) {
    #expect(ContainerConformance.problems { Self.fixture(inner) } == [])
  }

  /// iommufd's unmap hands no bitmap over that says anything.
  @Test(arguments: Inner.allCases, HeaderContainer.Fault.allCases)
  func `a loss on the way through the header is noticed`(
    inner: Inner, fault: HeaderContainer.Fault
  ) {
    let isLoss = fault != .none && !(fault == .emptyBitmaps && inner == .iommufd)
    let problems = ContainerConformance.problems { Self.fixture(inner, fault) }
    #expect(problems.isEmpty != isLoss)
  }
}
